"""A command that takes a tuned file and a target, on what these are to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pytest
import yaml


class OnFiles(Protocol):
    """Runs the command; its exit code, output and errors."""

    def __call__(self, tuned: object, target: object, *arguments: str) -> tuple[int, str, str]: ...


def on_files(
    main: Callable[[Sequence[str]], int], folder: Path, capsys: pytest.CaptureFixture[str]
) -> OnFiles:
    """The command `main` on `tuned.yaml` and `target.yaml` of a folder, written for each call."""

    def command(tuned: object, target: object, *arguments: str) -> tuple[int, str, str]:
        paths = folder / "tuned.yaml", folder / "target.yaml"
        for path, content in zip(paths, (tuned, target), strict=True):
            path.write_text(yaml.safe_dump(content), encoding="utf-8")
        code = main(["--from", str(paths[0]), "--to", str(paths[1]), *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command
