"""Processes that never search the calendar are spared its compiler."""

import subprocess
import sys

ROLES = ("gateway", "shipper", "agent")
SCRIPT = f"""
import importlib, sys
for role in {ROLES!r}:
    importlib.import_module("skerry.server.roles." + role)
    if found := [name for name in ("numba", "llvmlite") if name in sys.modules]:
        sys.exit(role + " loads " + ", ".join(found))
"""


def test_roles_that_do_not_search_load_no_compiler():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
