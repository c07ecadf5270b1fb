"""`skerry …` on a terminal of its own."""

import ctypes
import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

_PR_SET_PDEATHSIG = 1


def _as_from_a_shell() -> None:
    """Whoever runs the tests in the background has SIGINT ignored, and that is inherited. Ends with the tests, too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Terminal:
    def __init__(self, env, *args, term="dumb"):
        self.master, slave = pty.openpty()
        environ = {name: value for name, value in {**os.environ, **env, "TERM": term}.items() if value is not None}
        command = [sys.executable, "-m", "skerry.cli", *args]
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environ,
            start_new_session=True,
            preexec_fn=_as_from_a_shell,
        )
        os.close(slave)
        self.output = ""

    def type(self, text):
        os.write(self.master, text.encode())

    def until(self, text, seconds=20.0):
        deadline = time.monotonic() + seconds
        while text not in self.output:
            assert time.monotonic() < deadline, f"{text!r} did not come; this did: {self.output!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                with suppress(OSError):
                    self.output += os.read(self.master, 65536).decode(errors="replace")

    def end(self):
        try:
            return self.process.wait(20)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            os.close(self.master)
