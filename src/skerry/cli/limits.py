"""Limits of projects and organizations, as they are typed and shown."""

from typing import Annotated

import typer

from skerry.cli import inputs
from skerry.client.answers.identity import RateLimits

Rpm = Annotated[str | None, typer.Option("--rpm", metavar="N", help="Requests a minute; none lifts it.")]
Tpm = Annotated[str | None, typer.Option("--tpm", metavar="N", help="Tokens a minute; none lifts it.")]
Concurrent = Annotated[
    str | None, typer.Option("--concurrent", metavar="N", help="Requests under way at once; none lifts it.")
]


def changed(before: RateLimits, rpm: str | None, tpm: str | None, concurrent: str | None) -> dict[str, int] | None:
    """All limits as they are to be, since the API takes them as a whole; None where nothing was said."""
    said = {"requests_per_minute": rpm, "tokens_per_minute": tpm, "concurrent_requests": concurrent}
    if all(text is None for text in said.values()):
        return None
    options = {"requests_per_minute": "--rpm", "tokens_per_minute": "--tpm", "concurrent_requests": "--concurrent"}
    limits: dict[str, int] = {}
    for name, text in said.items():
        value = getattr(before, name) if text is None else inputs.limit(text, options[name])
        if value is not None:
            limits[name] = value
    return limits


def shown(limits: RateLimits) -> str:
    parts = (
        (limits.requests_per_minute, "requests/min"),
        (limits.tokens_per_minute, "tokens/min"),
        (limits.concurrent_requests, "at once"),
    )
    return ", ".join(f"{value:,} {unit}" for value, unit in parts if value is not None)
