"""What the commands share: arguments, and errors as one line with exit code 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from paper_repro.errors import ConfigError
from sweeps.schema import SIZES

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


class OneLineParser(argparse.ArgumentParser):
    """Tells what is wrong with the arguments in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG, f"error: {message} (--help shows the usage)\n")


def make_parser(command: str, description: str, examples: str) -> OneLineParser:
    """A parser with what every sweep command takes: FILE, --size, --set and --runs-dir."""
    parser = OneLineParser(
        prog=f"python -m sweeps.{command}",
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE.yaml", type=Path, help="the sweep file")
    parser.add_argument(
        "--size",
        metavar="SIZE",
        help=f"which of the file's sizes ({', '.join(SIZES)}), instead of the one that its key size"
        " names; records of another than cpu are in DIR/<sweep>_<size>/",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="set a key of the file's base section, e.g. train.tokens=100000; may be repeated",
    )
    parser.add_argument(
        "--runs-dir",
        metavar="DIR",
        type=Path,
        default=Path("runs"),
        help="where the records are: DIR/<sweep>/<run id>/ (default: %(default)s)",
    )
    return parser


def run(
    command: Callable[[argparse.Namespace], int],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
) -> int:
    """Parse the arguments, run the command, and turn what was wrong into one line."""
    arguments = parser.parse_args(argv)
    try:
        return command(arguments)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        return INTERRUPTED
