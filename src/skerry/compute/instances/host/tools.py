"""Programs that the node brings along for images that lack them: an SSH server above all, with its own libraries.

They are started through their own dynamic loader, so that it does not matter which C library an image has.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from skerry.compute.instances.host.boot import FOLDER, Tools

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAMES: Final = ("sshd", "dash", "cat", "sleep", "tee", "setpriv")
_INSTEAD: Final = {"dash": "sh"}
_LIBRARY: Final = re.compile(r"(?:(\S+) => )?(/\S+) \(0x")


class NoTools(RuntimeError):
    """The node lacks a program that instances need."""


def of_this_machine() -> Tools:
    """For instances that have this machine's own programs. Raises NoTools."""
    found = {name: _which(name) for name in _NAMES}
    return Tools(  # noqa: S604 - no option of a subprocess
        shell=["/bin/sh"],
        sshd=[found["sshd"]],
        cat=[found["cat"]],
        sleep=[found["sleep"]],
        tee=[found["tee"]],
        setpriv=[found["setpriv"]],
    )


def packed(state: Path) -> tuple[Path, Tools]:
    """A folder with the programs, made once, and how they are called inside. Raises NoTools."""
    programs = {name: Path(_which(name)).resolve() for name in _NAMES}
    stamp = hashlib.sha256("".join(f"{path}{path.stat().st_mtime_ns}" for path in programs.values()).encode())
    folder = state / f"tools-{stamp.hexdigest()[:12]}"
    if not folder.is_dir():
        state.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix="tools-", dir=state))
        try:
            _fill(made, programs)
            made.chmod(0o755)
            made.rename(folder)
        except OSError as error:
            shutil.rmtree(made, ignore_errors=True)
            if not folder.is_dir():  # another program was not faster, it cannot be done
                raise NoTools(f"the programs for images cannot be gathered: {error}") from error
    loader = (folder / "loader").read_text()
    return folder, _calls(loader)


def _calls(loader: str) -> Tools:
    inside = f"{FOLDER}/tools"

    def call(name: str, *options: str) -> Sequence[str]:
        return [f"{inside}/lib/{loader}", "--library-path", f"{inside}/lib", f"{inside}/bin/{name}", *options]

    return Tools(
        shell=call("dash"),
        # It must not start itself anew for each connection: that would go by the image's own loader.
        sshd=call("sshd", "-r"),
        cat=call("cat"),
        sleep=call("sleep"),
        tee=call("tee"),
        setpriv=call("setpriv"),
    )


def _fill(folder: Path, programs: dict[str, Path]) -> None:
    (folder / "bin").mkdir()
    (folder / "lib").mkdir()
    loader = ""
    for name, path in programs.items():
        shutil.copy2(path, folder / "bin" / name)
        for needed, library in _libraries(path):
            shutil.copy2(library, folder / "lib" / (needed or library.name))
            loader = loader if needed else library.name
    if not loader:
        raise NoTools("sshd of this node has no dynamic loader")
    (folder / "loader").write_text(loader)


def _libraries(program: Path) -> list[tuple[str, Path]]:
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False, timeout=20)
    return [(name, Path(path)) for name, path in _LIBRARY.findall(done.stdout)]


def _which(name: str) -> str:
    for wanted in (name, _INSTEAD.get(name, name)):
        if (found := shutil.which(wanted, path=_PATH)) is not None:
            return os.path.abspath(found)  # noqa: PTH100 - not resolved: /usr/bin/x is what an instance sees
    package = "openssh-server" if name == "sshd" else "util-linux" if name == "setpriv" else name
    raise NoTools(f"{name} is not installed on this node (package {package})")
