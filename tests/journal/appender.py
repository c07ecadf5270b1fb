"""A process that keeps a journal, to be killed: prints each record's number once it was appended.

`python -m tests.journal.appender FOLDER SEGMENT_BYTES`
"""

import asyncio
import os
import sys
from pathlib import Path

from skerry.runtime.journal.writer import JournalWriter
from tests.journal.records import answer


async def main(folder: Path, segment_bytes: int) -> None:
    writer = JournalWriter(folder, segment_bytes=segment_bytes)
    writer.start(asyncio.get_running_loop())
    number = 0
    while True:
        for _ in range(1 + number % 5):
            writer.append(answer(number, model="m" * (number % 200)))
            os.write(1, b"%d\n" % number)
            number += 1
        await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
