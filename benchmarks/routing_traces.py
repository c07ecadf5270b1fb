"""Real traces as calls of the simulation.

Mooncake (Apache-2.0, kvcache-ai/Mooncake, FAST'25) names the 512-token blocks of each prompt; Azure (CC BY 4.0, Patel
et al., "Splitwise", ISCA 2024) knows lengths only. Neither has text: a block becomes 2 KiB of bytes of its own, and
every prompt begins with the salt of one project, as in the gateway.
"""

import csv
import gzip
import json
import os
from datetime import datetime
from pathlib import Path

from routing_model import BLOCK, Call

SALT = b"project-0123456789abcdef\0"
BYTES = 4
"""Of a token."""
COMPARED = 64 * 1024
MOONCAKE = "mooncake/conversation_trace.jsonl.gz"
AZURE = "azure-llm/AzureLLMInferenceTrace_conv.csv"


def find_data() -> Path | None:
    """The folder with the traces."""
    given = os.environ.get("SKERRY_BENCH_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if (folder / MOONCAKE).exists() and (folder / AZURE).exists() else None


def mooncake(folder: Path, speed: float, count: int | None) -> list[Call]:
    """`speed`: how much faster than it happened."""
    calls = []
    with gzip.open(folder / MOONCAKE, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            at, size = row["timestamp"] / 1000 / speed, row["input_length"] * BYTES
            calls.append(_call(at, row["input_length"], row["output_length"], row["hash_ids"], size))
    return calls[:count]


def azure(folder: Path, speed: float, count: int | None) -> list[Call]:
    calls: list[Call] = []
    block = 0
    with (folder / AZURE).open() as lines:
        begun: datetime | None = None
        for row in csv.DictReader(lines):
            at = datetime.fromisoformat(row["TIMESTAMP"][:26])
            begun = begun or at
            prompt = int(row["ContextTokens"])
            blocks = list(range(block, block + -(-prompt // BLOCK)))
            block += len(blocks)
            seconds = (at - begun).total_seconds() / speed
            calls.append(_call(seconds, prompt, int(row["GeneratedTokens"]), blocks, prompt * BYTES))
    return calls[:count]


def _call(at: float, prompt: int, answer: int, blocks: list[int], size: int) -> Call:
    needed = COMPARED // (BLOCK * BYTES) + 1
    text = SALT + b"".join(b"%08d" % block * (BLOCK * BYTES // 8) for block in blocks[:needed])[:size]
    return Call(at, prompt, answer, tuple(blocks), text[:COMPARED], len(SALT) + size)
