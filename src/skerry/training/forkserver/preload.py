"""What a training program is likely to import: done once, so that a restart costs a fork and no imports."""

import contextlib
import gc
import importlib
import os
from typing import Final

_TORCH: Final = (
    "torch",
    "torch.nn",
    "torch.optim",
    "torch.utils.data",
    "torch.distributed",
    "torch.distributed.checkpoint",
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.checkpoint.state_dict_loader",
    "torch.distributed.checkpoint.state_dict_saver",
    "torch.distributed.device_mesh",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.nn.parallel",
    "torch._dynamo",
)


def preload() -> None:
    """Import what is there. Never touches CUDA, and leaves one thread."""
    for name in ("numpy", *_TORCH):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _first_optimizer()
    # What is here now is shared with every rank: looking through it for garbage would copy it into each.
    gc.collect()
    gc.freeze()


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _first_optimizer() -> None:
    """The first AdamW imports another two hundred modules, a second's worth."""
    with contextlib.suppress(ImportError):
        torch = importlib.import_module("torch")
        torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
