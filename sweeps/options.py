"""What the commands can be asked for, as frozen objects, and the command lines made from them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from paper_repro.command import WRONG, positive
from paper_repro.config import Execution, PositiveInt
from paper_repro.paths import given_path

OK, FAILED = 0, 1
"""Exit codes, beside those of every command (`paper_repro.command`)."""

Cluster = Literal["local", "slurm", "debug"]


class SweepOptions(BaseModel):
    """Which sweep a command is about, and where its records are."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    file: Path
    """The sweep file."""
    size: str | None = None
    """Which of the file's sizes (cpu, gpu, paper), instead of the one that its key size names.
    Records of a size other than cpu are in DIR/<sweep>_<size>/."""
    overrides: tuple[str, ...] = ()
    """Set a key of the file's base section, e.g. train.tokens=100000; may be repeated."""
    seeds: tuple[int, ...] = ()
    """Seeds in place of those of the file, in every grid of it: those that confirm what others
    showed lie beside these in the same records."""
    runs_dir: Path = Path("runs")
    """Where the records are: DIR/<sweep>/<run id>/."""


class LaunchOptions(SweepOptions):
    """What a launch is asked for."""

    cluster: Cluster = "local"
    """local: worker processes here; slurm: a job array; debug: in this process."""
    profile: Path | None = None
    """What --cluster slurm asks the site for, see slurm/README.md (default: the sweep file's key
    profile, or the site's own defaults)."""
    workers: PositiveInt | None = None
    """How many runs at a time (default: the number of cores, or of GPUs; on slurm the profile's
    concurrency)."""
    dry_run: bool = False
    """Show the plan and stop."""
    compile: Literal["auto", "always", "never"] = "auto"
    """torch.compile, once a bundle; auto: where its runs are long enough to repay it."""
    dtype: Literal["auto", "float32", "bfloat16"] | None = None
    """Precision of matrix products; parameters and optimiser state stay float32 (default: float32,
    but bfloat16 of sizes gpu and paper on a GPU). auto: that of the runs that the sweep has, and of
    the first ones bfloat16 where this machine is faster with it."""
    execution: Execution = Execution()
    """How runs execute. Precision is decided by `dtype`, compilation by `compile`, threads on a
    cluster by its profile."""


Options = TypeVar("Options", bound=SweepOptions)

_EXECUTION_FLAGS = (*("device", "parallel", "accumulate", "recompute", "gradient_norms"),)
"""The fields of `Execution` that have a flag."""


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG, f"error: {message} (--help shows the usage)\n")


def run(
    execute: Callable[[Options], int],
    kind: type[Options],
    description: str,
    examples: str,
    argv: Sequence[str] | None,
) -> int:
    """Parse the command line and run the command.

    Args:
        execute: the function that gets the options; its name is that of its module.
        kind: the options that the command takes.
        argv: the arguments; None: those of this process.
    """
    parser = _parser(execute.__name__, kind)
    parser.description, parser.epilog = description, f"examples:\n{examples}"
    return execute(_options(kind, vars(parser.parse_args(argv))))


def _parser(name: str, kind: type[SweepOptions]) -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog=f"python -m sweeps.{name}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,  # what is not given is left to the options
    )
    fields = dict(kind.model_fields)
    parser.add_argument(
        "file", metavar="FILE.yaml", type=given_path, help=fields.pop("file").description
    )
    if fields.pop("execution", None):
        fields |= {name: Execution.model_fields[name] for name in _EXECUTION_FLAGS}
    for field_name, field in fields.items():
        text = " ".join((field.description or "").split()).replace("%", "%%")
        if field.default and not isinstance(field.default, bool):
            text = f"{text.removesuffix('.')} (default: {field.default})."
        flag = "set" if field_name == "overrides" else field_name.replace("_", "-")
        parser.add_argument(f"--{flag}", dest=field_name, help=text, **_values(field_name, field))
    return parser


def _values(name: str, field: FieldInfo) -> dict[str, Any]:
    """The arguments of argparse that say which values a flag takes."""
    kinds = (field.annotation, *get_args(field.annotation))  # a literal, or one that may be None
    if choices := next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), None):
        return {"choices": choices}
    if field.annotation is bool:
        return {"action": "store_true"}
    if name == "overrides":
        return {"action": "append", "metavar": "KEY=VALUE"}
    if name == "size":
        return {"metavar": "SIZE"}
    if name == "seeds":
        return {"nargs": "+", "type": _count, "metavar": "N"}
    if name in ("profile", "runs_dir"):
        return {"type": given_path, "metavar": "FILE" if name == "profile" else "DIR"}
    return {"type": positive, "metavar": "N"}


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number (got {text!r})")
    return int(text)


def _options(kind: type[Options], values: dict[str, Any]) -> Options:
    execution = {name: values.pop(name) for name in _EXECUTION_FLAGS if name in values}
    if execution:
        values["execution"] = Execution(**execution)
    lists = {name: tuple(values.get(name, ())) for name in ("overrides", "seeds")}
    return kind.model_validate(values | lists)
