"""Processes that never search the calendar are spared its compiler."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("role", ["gateway", "shipper", "agent"])
def test_a_role_that_does_not_search_loads_no_compiler(role):
    script = (
        f"import sys, skerry.server.roles.{role}\n"
        "sys.exit(', '.join(name for name in ('numba', 'llvmlite') if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
