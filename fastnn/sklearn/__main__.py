"""``python -m fastnn.sklearn script.py``: a script with fastnn's MLPs for scikit-learn's."""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from fastnn.sklearn import patch


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the script, or with ``-m`` the module, that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m fastnn.sklearn",
        description="Run a script whose MLPClassifier and MLPRegressor of scikit-learn are to be "
        "fastnn's.",
    )
    parser.add_argument("-m", dest="module", action="store_true", help="it is a module's name")
    parser.add_argument("script", help="the script, or the module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its own arguments")
    given = parser.parse_args(arguments)
    if not given.module and not Path(given.script).exists():
        parser.error(f"there is no file {given.script}")
    patch()
    sys.argv = [given.script, *given.arguments]
    if given.module:
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(given.script, run_name="__main__", alter_sys=True)
    else:
        # As Python itself does: modules beside the script can be imported.
        sys.path.insert(0, str(Path(given.script).resolve().parent))
        runpy.run_path(given.script, run_name="__main__")


if __name__ == "__main__":
    main()
