"""Paths as people write them, where no shell has expanded them."""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from pathlib import Path

from paper_repro.errors import ConfigError

VARIABLE = re.compile(r"\$(\w+|\{\w+\})")
"""A variable of the environment in a path."""


def expanded(text: str, source: str = "") -> str:
    """A path with `~`, `~name` and `$NAME` replaced, as a shell does.

    Args:
        source: what the path is of, for errors.

    Raises:
        ConfigError: there is no such variable or user, or the home of this one is unknown.
    """
    place = f"{source}: " if source else ""
    found = os.path.expanduser(os.path.expandvars(text))  # noqa: PTH111 (keeps a glob as it is)
    if unset := VARIABLE.search(found):
        raise ConfigError(f"{place}{text}: the variable {unset[0]} is not set")
    if found.startswith("~") and text.startswith("~"):
        raise ConfigError(f"{place}{text}: no home is known for {text.partition('/')[0]}")
    return found


def given_path(text: str) -> Path:
    """The path that an argument of a command is; a `type` of argparse."""
    try:
        return Path(expanded(text))
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def check_writable(folder: Path, option: str, make: bool = False) -> None:
    """Check that files can be written in a folder.

    Args:
        make: whether to make it where it is not there.

    Raises:
        ConfigError: naming the option and the folder.
    """
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"{option}: {folder} cannot be written ({error.strerror})") from None
