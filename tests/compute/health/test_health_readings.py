"""What GPUs say of themselves, with a driver that is a double."""

from types import SimpleNamespace

from skerry.compute.health.readings import GpuWatch


class Nvml:
    """As much of `pynvml` as is used."""

    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0
    NVML_TEMPERATURE_GPU = 0
    nvmlEventTypeXidCriticalError = 8

    class NVMLError(Exception):
        pass

    def __init__(self, gpus: int = 2) -> None:
        self.gpus = gpus
        self.ecc = dict.fromkeys(range(gpus), 0)
        self.heat = dict.fromkeys(range(gpus), 40)
        self.bad_rows: set[int] = set()
        self.gone: set[int] = set()
        self.waiting: list[tuple[int, int]] = []
        self.registered: list[int] = []

    def nvmlInit(self) -> None:
        if not self.gpus:
            raise self.NVMLError("no driver")

    def nvmlDeviceGetCount(self) -> int:
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index in self.gone:
            raise self.NVMLError("GPU is lost")
        return index

    def nvmlDeviceGetTotalEccErrors(self, handle: int, *_: int) -> int:
        return self.ecc[handle]

    def nvmlDeviceGetRemappedRows(self, handle: int) -> tuple[int, int, int, int]:
        return 0, 0, 0, int(handle in self.bad_rows)

    def nvmlDeviceGetTemperature(self, handle: int, _: int) -> int:
        return self.heat[handle]

    def nvmlEventSetCreate(self) -> object:
        return object()

    def nvmlDeviceRegisterEvents(self, handle: int, *_: object) -> None:
        self.registered.append(handle)

    def nvmlEventSetWait_v2(self, _: object, milliseconds: int) -> SimpleNamespace:
        assert milliseconds == 0, "the agent has one thread, and it never waits"
        if not self.waiting:
            raise self.NVMLError("timeout")
        number, device = self.waiting.pop(0)
        return SimpleNamespace(eventData=number, device=device)

    def nvmlDeviceGetIndex(self, handle: int) -> int:
        return handle


def test_a_machine_without_a_driver_says_nothing() -> None:
    watch = GpuWatch(Nvml(gpus=0))
    assert not watch.start()
    assert watch.read() == ()


def test_healthy_gpus_say_nothing() -> None:
    nvml = Nvml()
    watch = GpuWatch(nvml)
    assert watch.start()
    assert (watch.read(), nvml.registered) == ((), [0, 1])


def test_each_trouble_is_told_with_its_gpu() -> None:
    nvml = Nvml(gpus=4)
    watch = GpuWatch(nvml)
    watch.start()
    nvml.ecc[0], nvml.heat[1] = 3, 95
    nvml.bad_rows.add(2)
    nvml.gone.add(3)
    assert [(kind, code) for kind, code, _ in watch.read()] == [
        ("ecc", "uncorrected:gpu0"),
        ("thermal", "hot:gpu1"),
        ("rows", "remap_failed:gpu2"),
        ("xid", "79:gpu3"),
    ]


def test_an_xid_is_told_for_an_hour() -> None:
    nvml, clock = Nvml(), [0.0]
    watch = GpuWatch(nvml, lambda: clock[0])
    watch.start()
    nvml.waiting += [(48, 1), (13, 0), (48, 1)]
    told = (("xid", "13:gpu0", ""), ("xid", "48:gpu1", ""))
    assert watch.read() == told
    clock[0] = 3599
    assert watch.read() == told
    clock[0] = 3600
    assert watch.read() == ()
