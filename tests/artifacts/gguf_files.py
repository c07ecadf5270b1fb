"""Writes small GGUF files: sound ones, and ones that are wrong in a way of choice."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SOUND: Mapping[str, Any] = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "general.license": "mit",
    "llama.context_length": 2048,
    "llama.block_count": 4,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "tokenizer.chat_template": "{{ messages }}",
}


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def value(of: Any) -> bytes:
    if isinstance(of, bool):
        return struct.pack("<I?", 7, of)
    if isinstance(of, int):
        return struct.pack("<II", 4, of) if of >= 0 else struct.pack("<Iq", 11, of)
    if isinstance(of, float):
        return struct.pack("<If", 6, of)
    if isinstance(of, str):
        return struct.pack("<I", 8) + text(of)
    if of and isinstance(of[0], str):
        return struct.pack("<IIQ", 9, 8, len(of)) + b"".join(text(item) for item in of)
    return struct.pack("<IIQ", 9, 5, len(of)) + struct.pack(f"<{len(of)}i", *of)


def gguf(
    metadata: Mapping[str, Any] = SOUND, *, version: int = 3, tensors: int = 1, body: bytes | None = None
) -> bytes:
    """A whole file with `tensors` tensors of 8 × 4 numbers."""
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, len(metadata))
    head += b"".join(text(key) + value(of) for key, of in metadata.items())
    for number in range(tensors):
        head += text(f"blk.{number}.weight") + struct.pack("<IQQIQ", 2, 8, 4, 0, number * 128)
    data = bytes(128 * tensors) if body is None else body
    return head + bytes(-len(head) % 32) + data


def write(path: Path, content: bytes | None = None) -> Path:
    path.write_bytes(gguf() if content is None else content)
    return path
