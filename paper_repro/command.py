"""The edge of every command: its exit codes, errors in one line, and output on any terminal."""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path

from paper_repro.errors import ConfigError

WRONG, CRASHED, INTERRUPTED, UNREAD = 2, 70, 130, 141
"""Exit codes: what was asked for is wrong, or cannot be read or written; a fault of the program;
Ctrl-C; nobody reads the output."""

#: The extra of this project that installs a module.
EXTRAS = {
    **dict.fromkeys(("nbclient", "nbconvert", "nbformat", "traitlets"), "notebooks"),
    **dict.fromkeys(("cmaes", "optuna"), "search"),
    **{"datasets": "hf", "transformers": "peers"},
}

Main = Callable[[Sequence[str] | None], int]


def command(main: Main) -> Callable[..., int]:
    """Decorate the `main` of a command, which takes its arguments and returns its exit code.

    What is wrong becomes one line on stderr and an exit code of its own: a code that `main` returns
    means what `main` says and nothing else. Characters that the terminal lacks are replaced.
    """

    @wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        try:
            return main(argv)
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:  # as of `| head`; else Python would complain again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return UNREAD
        except ConfigError as error:
            problem = str(error)
        except ModuleNotFoundError as error:
            if error.name not in EXTRAS:
                return _crash()
            problem = f"needs {error.name}: pip install -e '.[{EXTRAS[error.name]}]'"
        except OSError as error:
            problem = _file_problem(error)
        except Exception:
            return _crash()
        print(f"error: {problem}", file=sys.stderr)
        return WRONG

    return run


def positive(text: str) -> int:
    """A whole number above 0, as the `type` of an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0 (got {text!r})")
    return int(text)


def _file_problem(error: OSError) -> str:
    """What is wrong with a file or folder, and which."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return "the working directory was deleted: change to another"
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _crash() -> int:
    traceback.print_exc()
    return CRASHED
