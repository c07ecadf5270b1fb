"""Somebody who follows our pages to the letter, in a folder of their own, with a cloud on a free port."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.docs.markdown import ROOT, commands
from tests.ports import free_port

TIMEOUT_SECONDS = 150


class Newcomer:
    """Has `.venv/bin/{python,skerry}` and `make`, as after `make install`; pastes commands and keeps what they say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.port = free_port()
        self.said: dict[str, str] = {}
        """What each command printed."""
        programs = folder / "programs"
        programs.mkdir()
        _program(programs / "make", self._recipe())
        (folder / "examples").symlink_to(ROOT / "examples")
        venv = folder / ".venv" / "bin"
        venv.mkdir(parents=True)
        _program(venv / "python", f'exec {sys.executable} "$@"')
        _program(venv / "skerry", f'exec {sys.executable} -m skerry.cli "$@"')
        ours = {name: value for name, value in os.environ.items() if not name.startswith("SKERRY_")}
        self._environment = {
            **ours,
            "PATH": f"{programs}:{ours.get('PATH', os.defpath)}",
            "SKERRY_HOME": str(self.home),
            "SKERRY_PORT": str(self.port),
            "COLUMNS": "160",
        }

    def paste(self, script: str) -> None:
        """Run a block command by command; each must succeed."""
        for command in commands(script):
            self.said[command] = self.run("bash", "-e", "-o", "pipefail", "-c", command)

    def python(self, program: str) -> str:
        return self.run(str(self.folder / ".venv" / "bin" / "python"), "-c", program)

    def run(self, *words: str) -> str:
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{words[-1]}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def heard(self, words: str) -> str:
        """What the commands with these words in them said."""
        found = [said for command, said in self.said.items() if words in command]
        assert found, f"no command with {words!r}; there are {list(self.said)}"
        return "\n".join(found)

    def leave(self) -> None:
        """Whatever happened before: nothing stays running."""
        subprocess.run(
            [str(self.folder / ".venv" / "bin" / "skerry"), "down"], env=self._environment, check=False, timeout=60
        )

    def _recipe(self) -> str:
        """What the Makefile does for `up`, once it is installed."""
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        recipe = re.search(r"^up:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
        assert recipe is not None
        body = recipe[1].replace("\t@", "").replace("\t", "").replace("$(BIN)", ".venv/bin")
        return (
            f'[ "$*" = up ] || {{ echo "this newcomer knows make up alone"; exit 2; }}\n{body.replace("$(ARGS)", "")}'
        )


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\nset -e\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
