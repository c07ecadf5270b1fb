"""Waiting for a cloud that starts in the background, with a word about each stage."""

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator

from rich.console import Console

from skerry.runtime.settings import Settings
from skerry.server.status import read_status

ASK_SECONDS = 0.2


def wait_until_ready(settings: Settings, child: "subprocess.Popen[bytes]", progress: int, seconds: float) -> int:
    """0 when `/readyz` says so, 2 where the launcher cannot start, 1 where it does not become ready in time."""
    console = Console(stderr=True)
    started = time.monotonic()
    words, begun = "starting", False
    with console.status(words) as shown:
        for stage, text in _stages(progress, child, started + seconds):
            if stage == "error":
                shown.stop()
                print(f"skerry: {text}", file=sys.stderr)  # noqa: T201
                child.wait()
                return 2
            if stage == "note":
                console.print(f"skerry: {text}")
                continue
            if stage:
                words = text
            shown.update(f"{words} … {time.monotonic() - started:.0f} s")
            # Before its roles are started, whoever answers there is another cloud: this home's, if it runs already.
            begun = begun or stage == "started"
            status = read_status(settings) if begun and stage in ("", "started") else None
            if status is not None and status["ready"]:
                shown.stop()
                took = time.monotonic() - started
                console.print(f"Skerry {status['version']} is up at {status['url']} after {took:.1f} s")
                return 0
            if status is not None and status.get("reasons"):
                words = "; ".join(f"{part}: {why}" for part, why in status["reasons"].items())
    if child.poll() is not None:
        print(f"skerry: the launcher ended, see {settings.home / 'launcher.log'}", file=sys.stderr)  # noqa: T201
    else:
        print(f"skerry: not ready after {seconds:.0f} s: {words}. It goes on; see {settings.logs}", file=sys.stderr)  # noqa: T201
    return 1


def _stages(progress: int, child: "subprocess.Popen[bytes]", deadline: float) -> Iterator[tuple[str, str]]:
    """The launcher's stages as they come; in between, an empty stage now and then."""
    with selectors.DefaultSelector() as selector:
        selector.register(progress, selectors.EVENT_READ)
        rest = b""
        while time.monotonic() < deadline:
            if selector.get_map() and selector.select(ASK_SECONDS):
                data = os.read(progress, 65536)
                if not data:
                    selector.unregister(progress)
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    said = json.loads(line)
                    yield said["stage"], said["text"]
            elif not selector.get_map():
                time.sleep(ASK_SECONDS)
            if child.poll() is not None and not selector.get_map():
                return
            yield "", ""
