"""The command ``fastnn``: each command has a file here, with its arguments and its work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import fastnn
from fastnn.cli import bench, demo, info, predict, train, warmup
from fastnn.cli.arguments import FAILED, INTERRUPTED, WRONG_USAGE
from fastnn.tables import TableError

COMMANDS = (demo, train, predict, bench, info, warmup)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastnn",
        description="Small and medium neural networks, trained and served fast.",
        epilog="Exit codes: 0 fine, 1 failed, 2 wrong arguments or data that cannot be used.",
    )
    parser.add_argument("--version", action="version", version=f"fastnn {fastnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for command in COMMANDS:
        command.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ArithmeticError, ImportError, OSError, RuntimeError, ValueError) as error:
        print(f"fastnn {options.command}: {error}", file=sys.stderr)
        return WRONG_USAGE if isinstance(error, TableError) else FAILED
    return status
