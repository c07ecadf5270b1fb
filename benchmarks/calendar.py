"""How fast the capacity calendar answers, sells, and is built anew, beside other ways to keep one.

    python benchmarks/calendar.py [--reservations 5400] [--searches 5000] [--seed 1] [--peers 10]
                                  [--no-database] [--json]

The rest is in calendar_measure.py: this file has the name of a module of the standard library, which whatever is run
from this folder must still get when it imports `calendar`.
"""

import importlib.util
import sys
import sysconfig
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from benchmarks.calendar_measure import main

    main()
else:
    found = importlib.util.spec_from_file_location(__name__, Path(sysconfig.get_path("stdlib")) / "calendar.py")
    assert found is not None
    assert found.loader is not None
    sys.modules[__name__] = module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
