"""The command line and environment of vLLM's server. Pure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from skerry.inference.engines.vllm.config import VllmConfig

MODULE: Final = "vllm.entrypoints.openai.api_server"
GUARD: Final = "skerry_guard.Guard"
"""The middleware that `launch.py` makes: vLLM itself asks for the key below /v1 only."""
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES")
_PREFIXES: Final = ("NCCL_", "CUDA_", "NVIDIA_", "VLLM_", "OMP_", "TORCH")


def arguments(config: VllmConfig, host: str, port: int) -> list[str]:
    """For `python -m vllm.entrypoints.openai.api_server`; the key is not among them."""
    words = [
        "--model", config.model,
        "--served-model-name", config.alias,
        "--host", host,
        "--port", str(port),
        "--max-model-len", str(config.context_length),
        "--max-num-seqs", str(config.slots),
        "--tensor-parallel-size", str(config.tensor_parallel),
        "--middleware", GUARD,
        # Cached tokens are billed as such; prefixes are kept apart by each request's cache_salt.
        "--enable-prefix-caching",
        "--enable-prompt-tokens-details",
        "--generation-config", "vllm",
        "--no-enable-log-requests",
        "--disable-uvicorn-access-log",
    ]  # fmt: skip
    if config.lora:
        words += ["--enable-lora", "--max-lora-rank", str(config.max_lora_rank), "--max-loras", str(config.max_loras)]
    if config.tool_parser:
        words += ["--enable-auto-tool-choice", "--tool-call-parser", config.tool_parser]
    if config.device == "cpu":
        # Compiling takes minutes there and gains little.
        words += ["--enforce-eager"]
    return words


def environment(config: VllmConfig, around: Mapping[str, str], work: Path) -> dict[str, str]:
    """What the server sees: no secret of ours, nothing it could fetch from a hub, its caches in its own folder."""
    kept = {
        name: value for name, value in around.items() if name in _KEPT or name.startswith(_PREFIXES)
    }  # fmt: skip
    kept.pop("VLLM_API_KEY", None)
    return {
        **kept,
        "HOME": str(work),
        "XDG_CACHE_HOME": str(work / "cache"),
        "VLLM_CACHE_ROOT": str(work / "cache" / "vllm"),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True" if config.lora else "False",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
