"""A replica of a BERT checkpoint: `python -I -m skerry.inference.engines.llamacpp.bert_host`.

As `host`, but the weights are turned into GGUF first, in memory and without privileges, at each start: about a second
for 90 MB. Nothing derived is kept, so nothing can be half written, out of date or left behind.
"""

import os
from collections.abc import Callable
from pathlib import Path

from skerry.inference.engines.llamacpp.bert import BadCheckpoint, Checkpoint, convert
from skerry.inference.engines.llamacpp.config import HostConfig
from skerry.inference.engines.llamacpp.host import CannotStart, leave, main


def checkpoint(config: HostConfig) -> Callable[[], str]:
    """Raises OSError, ValueError for files that are not there or no JSON."""
    found = [Checkpoint.read(Path(config.model))]

    def turned() -> str:
        path = Path(f"/proc/self/fd/{os.memfd_create('weights', os.MFD_CLOEXEC)}")
        try:
            convert(found.pop(), config.alias, path)
        except BadCheckpoint as error:
            raise CannotStart(f"{config.model}: {error.detail}") from error
        return str(path)

    return turned


if __name__ == "__main__":
    leave(main(checkpoint))
