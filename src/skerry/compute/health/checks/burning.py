"""Burn-in: the same product of matrices over and over, which must come out the same, bit by bit, each time.

A device that errs silently shows as a result that differs, one that is about to go as an error of its driver.
"""

import importlib
import os
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from skerry.compute.health.checks.found import Found

torch: Any = importlib.import_module("torch") if Path("/dev/nvidiactl").exists() else None
"""Loaded while the process may still read where it lies, and only where there are GPUs: it takes seconds."""
_SIZE: Final = 512
_GPU_SIZE: Final = 8192
_MEMORY_BYTES: Final = 64 << 20


def burn_in(seconds: float) -> Found:
    """On all GPUs the task may see, else on the cores it has; then a pattern through memory."""
    gpus = torch.cuda.device_count() if torch is not None and torch.cuda.is_available() else 0
    if gpus:
        return _on_gpus(gpus, seconds)
    return _on_cores(seconds)


def _on_cores(seconds: float) -> Found:
    rng = np.random.default_rng(7)
    left, right = rng.random((_SIZE, _SIZE)), rng.random((_SIZE, _SIZE))
    truth = left @ right
    rounds, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        rounds += 1
        if not np.array_equal(left @ right, truth):
            return Found(False, f"round {rounds} of the burn-in came out differently: this processor errs")
    if not _memory_holds():
        return Found(False, "memory did not hold a pattern that was written to it")
    work = 2 * _SIZE**3 * rounds / seconds / 1e9
    figures = {"rounds": rounds, "gflops": round(work, 1), "cores": len(os.sched_getaffinity(0))}
    return Found(True, f"{rounds} rounds, all the same, at {work:.1f} GFLOP/s", figures)


def _memory_holds() -> bool:
    for pattern in (0x00, 0xFF, 0xAA, 0x55):
        block = np.full(_MEMORY_BYTES, pattern, dtype=np.uint8)
        if int(block.min()) != pattern or int(block.max()) != pattern:
            return False
    return True


def _on_gpus(gpus: int, seconds: float) -> Found:
    figures: dict[str, Any] = {}
    for index in range(gpus):
        found = _on_gpu(index, seconds / gpus)
        if not found.ok:
            return found
        figures[f"gpu{index}"] = found.figures
    return Found(True, f"{gpus} GPUs, all rounds the same", figures)


def _on_gpu(index: int, seconds: float) -> Found:
    device = f"cuda:{index}"
    try:
        generator = torch.Generator(device=device).manual_seed(7)
        shape = (_GPU_SIZE, _GPU_SIZE)
        left = torch.randn(shape, device=device, dtype=torch.bfloat16, generator=generator)
        right = torch.randn(shape, device=device, dtype=torch.bfloat16, generator=generator)
        truth = left @ right
        rounds, deadline = 0, time.monotonic() + seconds
        while time.monotonic() < deadline:
            rounds += 1
            if not torch.equal(left @ right, truth):
                return Found(False, f"round {rounds} on GPU {index} came out differently: it errs")
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        return Found(False, f"GPU {index}: {str(error).splitlines()[0]}")
    work = 2 * _GPU_SIZE**3 * rounds / seconds / 1e12
    return Found(True, f"GPU {index}: {rounds} rounds", {"rounds": rounds, "tflops": round(work, 1)})
