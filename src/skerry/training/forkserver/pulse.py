"""A pulse for every optimizer step, so that a program which tells nothing is still seen to go on."""

import contextlib
import os
import sys
from typing import Any


def install() -> None:
    """Through torch's own hook for all optimizers. Nothing where torch is not loaded."""
    optimizers: Any = sys.modules.get("torch.optim.optimizer")
    compiler: Any = sys.modules.get("torch.compiler")
    if optimizers is None or compiler is None:
        return
    fd = int(os.environ["SKERRY_STEP_FD"])
    line = f"p {os.environ.get('RANK', '0')}\n".encode()

    def beat(*_: Any) -> None:
        if not compiler.is_compiling():
            with contextlib.suppress(OSError):
                os.write(fd, line)

    optimizers.register_optimizer_step_post_hook(beat)
