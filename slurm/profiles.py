"""Cluster profiles: what a SLURM site wants to be asked for, in one YAML file.

`slurm/README.md` explains the keys. A profile says nothing about runs and changes none of their
numbers, so it is no part of a sweep's records.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ValidationError, model_validator

from paper_repro.config import PositiveInt
from paper_repro.errors import ConfigError, explain
from paper_repro.files import read_yaml

MIN_MINUTES = 5
"""SLURM warns a job up to 150 s before its time limit, and the job needs time before that."""

Option = str | int | Literal[True]

#: Options that sbatch refuses beside `--mem`: they stand in its place.
MEMORY_OPTIONS = ("mem-per-cpu", "mem-per-gpu")
#: Options that it refuses beside one that is always sent, and the key that does what they do.
_DONE_BY = {"cpus-per-gpu": "cpus", "tres-per-task": "cpus and gpus"}

_TIME = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)")
#: Options of sbatch that are set by a key of the profile, by the launcher, or by submitit.
_SET_HERE = """
    account array cpus-per-task error gpus-per-node job-name mem nodes ntasks ntasks-per-node
    open-mode output partition qos requeue signal time
"""


def _check_time(text: str) -> str:
    if _minutes(text) < MIN_MINUTES:
        raise ValueError(
            f"expected 'hours:minutes:seconds' or 'days-hours:minutes:seconds', "
            f"at least {MIN_MINUTES} minutes (got {text!r})"
        )
    return text


def _minutes(time: str) -> int:
    """Whole minutes of a time limit, rounded up; 0 if it does not match `_TIME`."""
    if not (match := _TIME.fullmatch(time)):
        return 0
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + minutes + (seconds > 0)


def _check_memory(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d*[KMGT]", text):
        raise ValueError(f"expected a whole number and K, M, G or T, such as 16G (got {text!r})")
    return text


def _check_gpus(gpus: int | str) -> int | str:
    typed = isinstance(gpus, str) and re.fullmatch(r"[\w.-]+:[1-9]\d*", gpus)
    if not typed and (isinstance(gpus, str) or gpus < 0):
        raise ValueError(f"expected a number or TYPE:NUMBER, such as a100:1 (got {gpus!r})")
    return gpus


def _check_environment(variables: dict[str, str | int]) -> dict[str, str | int]:
    for name in variables:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ValueError(f"expected names of environment variables (got {name!r})")
    return variables


def _check_options(options: dict[str, Option]) -> dict[str, Option]:
    named = {}
    for given, value in options.items():
        name = given.replace("_", "-")
        if name in _SET_HERE.split():
            raise ValueError(f"{given} is set elsewhere: by a key of its own, or by the launcher")
        if name in _DONE_BY:
            raise ValueError(f"{given} cannot stand beside the key {_DONE_BY[name]}: use that")
        named[name] = value
    return named


class Profile(BaseModel, extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True):
    """What every job of a launch asks for. What is left out is left to the site.

    Memory and time are not: jobs ask for what their work needs (`slurm.resources`).
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    nodes: PositiveInt = 1
    """Nodes of a job."""
    tasks: PositiveInt = 1
    """Processes of a job on each of its nodes; all of them train one run together."""
    gpus: Annotated[int | str, AfterValidator(_check_gpus)] = 0
    """GPUs of a job on each of its nodes: 0, or one for each task; or of a type: `a100:1`."""
    gpu_memory: Annotated[str, AfterValidator(_check_memory)] = "80G"
    """Memory of a GPU: batches are divided so that a run is estimated to fit."""
    cpus: PositiveInt = 1
    """CPUs of a task, which computes with as many threads."""
    memory: Annotated[str, AfterValidator(_check_memory)] | None = None
    """Memory of a job on each of its nodes. Without it, a job asks for what its runs need."""
    time: Annotated[str, AfterValidator(_check_time)] = "24:00:00"
    """The most that a job may ask for. One that reaches its limit saves its run and is requeued."""
    array_limit: PositiveInt = 1000
    """Tasks in one array (the site's MaxArraySize less one); more become several arrays."""
    concurrency: PositiveInt = 16
    """Jobs of a launch that may run at the same time; as many are submitted without --workers."""
    setup: list[str] = []
    """Lines of shell that a job runs before Python."""
    environment: Annotated[dict[str, str | int], AfterValidator(_check_environment)] = {}
    """Variables set after `setup`."""
    options: Annotated[dict[str, Option], AfterValidator(_check_options)] = {}
    """Any other option of sbatch, such as `constraint: a100`; `true` for one without a value."""

    @model_validator(mode="after")
    def _one_memory(self) -> Profile:
        if self.memory and (option := self.memory_option):
            raise ValueError(f"memory: expected none beside options.{option}")
        return self

    @property
    def memory_option(self) -> str | None:
        """The option that says a job's memory, in place of `memory`."""
        return next((name for name in MEMORY_OPTIONS if name in self.options), None)

    @model_validator(mode="after")
    def _a_gpu_a_task(self) -> Profile:
        count = str(self.gpus).rpartition(":")[2]
        if int(count) not in (0, self.tasks):
            raise ValueError(
                f"gpus: expected 0 or {self.tasks}, one for each of the tasks (got {self.gpus!r})"
            )
        return self

    @property
    def processes(self) -> int:
        """Number of processes of a job, on all of its nodes."""
        return self.nodes * self.tasks

    @property
    def gpu_bytes(self) -> float:
        """`gpu_memory`, in the units of data sheets, powers of ten."""
        return int(self.gpu_memory[:-1]) * 1000.0 ** ("KMGT".index(self.gpu_memory[-1]) + 1)

    @property
    def minutes(self) -> int:
        """The time limit, rounded up."""
        return _minutes(self.time)


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        ConfigError: one line naming the file, the key and what was expected.
    """
    content = read_yaml(path)
    keys = ", ".join(Profile.model_fields)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping with keys of {keys}")
    for key in content:
        if key not in Profile.model_fields:
            raise ConfigError(f"{path}: {key}: unknown key, expected one of {keys}")
    try:
        return Profile.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error)}") from None
