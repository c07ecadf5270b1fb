"""What the GPUs of this machine say of themselves, by NVML: for the agent that runs on it.

A reading is (kind, code, detail), as `rules.of_state` reads it. Where there is no driver there is nothing to read.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

import pynvml

from skerry.compute.health.rules import HOT_CELSIUS

Reading = tuple[str, str, str]
_EVENTS_AT_ONCE: Final = 256
_REMEMBERED_SECONDS: Final = 3600.0
"""An Xid is an event: it is told for so long after it came."""


class GpuWatch:
    """Without a thread: Xids wait with the driver until somebody reads."""

    def __init__(self, nvml: Any = pynvml, now: Callable[[], float] = time.monotonic) -> None:
        self._nvml, self._now = nvml, now
        self._xids: dict[str, float] = {}
        self._events: Any = None
        self._there = False

    def start(self) -> bool:
        """False: there is no driver here, and nothing will be read."""
        try:
            self._nvml.nvmlInit()
            self._there = self._nvml.nvmlDeviceGetCount() > 0
        except self._nvml.NVMLError:
            return False
        if self._there:
            self._events = self._registered()
        return self._there

    def read(self) -> tuple[Reading, ...]:
        if not self._there:
            return ()
        found: list[Reading] = []
        for index in range(self._nvml.nvmlDeviceGetCount()):
            found += self._of(index)
        self._collect()
        old = self._now() - _REMEMBERED_SECONDS
        self._xids = {code: at for code, at in self._xids.items() if at > old}
        return (*found, *(("xid", code, "") for code in sorted(self._xids)))

    def _registered(self) -> Any:
        """None: too old a driver, or no right to it."""
        nvml = self._nvml
        try:
            events = nvml.nvmlEventSetCreate()
            for index in range(nvml.nvmlDeviceGetCount()):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
        except nvml.NVMLError:
            return None
        return events

    def _collect(self) -> None:
        if self._events is None:
            return
        for _ in range(_EVENTS_AT_ONCE):
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, 0)
            except self._nvml.NVMLError:  # that nothing waits is an error, too
                return
            self._xids[f"{event.eventData}:{self._name(event.device)}"] = self._now()

    def _of(self, index: int) -> Iterable[Reading]:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:
            yield "xid", f"79:gpu{index}", str(error)
            return
        with suppress(nvml.NVMLError):
            kind, counter = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
            if errors := nvml.nvmlDeviceGetTotalEccErrors(handle, kind, counter):
                yield "ecc", f"uncorrected:gpu{index}", f"GPU {index} has {errors} uncorrected memory errors"
        with suppress(nvml.NVMLError):
            _, _, _, failed = nvml.nvmlDeviceGetRemappedRows(handle)
            if failed:
                yield "rows", f"remap_failed:gpu{index}", f"GPU {index} could not remap a bad row of its memory"
        with suppress(nvml.NVMLError):
            heat = nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            if heat >= HOT_CELSIUS:
                yield "thermal", f"hot:gpu{index}", f"GPU {index} is at {heat} °C"

    def _name(self, handle: Any) -> str:
        try:
            return f"gpu{self._nvml.nvmlDeviceGetIndex(handle)}"
        except self._nvml.NVMLError:
            return "gpu"
