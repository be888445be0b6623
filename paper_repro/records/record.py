"""A record: the directory `runs/<sweep>/<run id>/` that one run leaves behind.

    config.yaml     the resolved RunConfig
    run.json        what ran it: versions, code, corpus hash, device, optimiser groups (`RunInfo`)
    metrics.jsonl   one object a line (`MetricsLine`)
    checkpoint.pt   while the run is unfinished
    status.json     written last: how the run ended, final losses, speed, memory (`Status`)
    error.txt       traceback of the last failure
    claims/         who works on it (`paper_repro.records.lease`)

The state of a run is what these files say; nothing else remembers it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from paper_repro.config import RunConfig, parse_run_config
from paper_repro.errors import ConfigError
from paper_repro.files import read_json, read_yaml_sections, write_json, write_yaml

FORMAT = 1
"""Goes up when a field of `status.json` or `run.json` changes its meaning; a new field needs none.
Files without the key are of the time before it had one, and of format 1."""


class _File(BaseModel):
    """The content of a JSON file of a record."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    format: int = FORMAT


class Status(_File):
    """`status.json`: how a run ended. A failed run has only an error, and a log where there is one.

    Losses are means in nats a token; what is not finite is None.
    """

    status: Literal["done", "diverged", "failed"]
    """How the run ended."""
    val_loss: float | None = None
    """Final loss on the fixed validation sequences; None for a run that is not done."""
    train_loss: float | None = None
    """Final training loss, without z-loss."""
    error: str | None = None
    """Why the run failed."""
    step: int | None = None
    """The last optimiser step taken."""
    steps: int | None = None
    """Optimiser steps of a whole run."""
    tokens: int | None = None
    """Tokens trained on."""
    flops: float | None = None
    """Floating-point operations spent."""
    wall_seconds: float | None = None
    """Time spent, over all attempts; runs that train at once share it."""
    tokens_per_second: float | None = None
    """Training speed, over all attempts."""
    peak_memory_bytes: int | None = None
    """Largest memory in use, on the device that trained."""
    peak_host_memory_bytes: int | None = None
    """Largest memory of the process on the host since it started; absent in older records."""
    finished: str | None = None
    """When the run ended (UTC)."""
    log: str | None = None
    """Where the worker of a failed run logged."""


class DataInfo(BaseModel):
    """What a run was trained on. Entropies are in nats a token."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    corpus: str
    """As `data.corpus` of the configuration."""
    tokenizer: str
    """As `data.tokenizer` of the configuration."""
    corpus_hash: str
    """Content hash of the token files."""
    vocab_size: int
    """Tokens in the vocabulary."""
    unigram_entropy: float
    """Entropy of a token of the corpus, in nats."""
    bigram_entropy: float
    """Entropy of a token given the one before it, in nats."""


class RunInfo(_File):
    """`run.json`: what ran a run."""

    versions: dict[str, str]
    """Versions of Python and of the packages that can change a run's numbers."""
    code_hash: str | None = None
    """Content hash of the code that trained it (its last part, if other code began)."""
    git_revision: str | None = None
    """Revision of this project that trained it."""
    factory_hash: str | None = None
    """Content hash of the code of `model.factory`; None for our GPT."""
    earlier_code: list[dict[str, str | None]] = []
    """Other code that took steps of the run before, in order."""
    device: str
    """The model of the CPU or GPU."""
    execution: dict[str, Any] = {}
    """How it ran (`paper_repro.config.Execution`)."""
    earlier_execution: list[dict[str, Any]] = []
    """Other ways in which steps of the run were taken before, in order."""
    processes: int = 1
    """Number of processes that trained the run together."""
    runs_at_once: int = 1
    """Runs of the bundle that trained as one program."""
    data: DataInfo
    parameters: int
    """Parameters of the model."""
    groups: list[dict[str, Any]] = []
    """The optimiser groups."""

    @property
    def dtype(self) -> str | None:
        """The precision of its matrix products; of a run that was resumed in another, all of them
        in order. None where it was not written down."""
        ways = [*self.earlier_execution, self.execution]
        return ", ".join(dict.fromkeys(how["dtype"] for how in ways if "dtype" in how)) or None


class MetricsLine(TypedDict):
    """A line of `metrics.jsonl`. Losses are in nats a token, None where not finite."""

    step: int
    """Optimiser steps taken."""
    tokens: int
    """Tokens trained on."""
    lr_scale: float
    """Factor of the schedule on the peak learning rates, at the last step taken."""
    train_loss: float | None
    """Mean since the line before."""
    val_loss: NotRequired[float | None]
    """On the fixed validation sequences, where they were evaluated."""
    gradient_norm: NotRequired[float | None]
    """Largest norm of the gradients since the line before, if the launch asked for it."""


_AnyFile = TypeVar("_AnyFile", bound=_File)


@dataclass
class Record:
    """The files of one run. Creating the object touches nothing on disk."""

    directory: Path

    @property
    def config_path(self) -> Path:
        return self.directory / "config.yaml"

    @property
    def run_path(self) -> Path:
        return self.directory / "run.json"

    @property
    def metrics_path(self) -> Path:
        return self.directory / "metrics.jsonl"

    @property
    def checkpoint_path(self) -> Path:
        return self.directory / "checkpoint.pt"

    @property
    def status_path(self) -> Path:
        return self.directory / "status.json"

    @property
    def error_path(self) -> Path:
        return self.directory / "error.txt"

    def create(self, config: RunConfig) -> None:
        """Make the directory and write `config.yaml`, unless they are there and whole."""
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            if self.config() == config:
                return
        except ConfigError:
            pass  # absent or cut short: written anew
        write_yaml(self.config_path, config.model_dump(mode="json"))

    def config(self) -> RunConfig:
        """Read `config.yaml` back. Raises ConfigError if it is absent or damaged."""
        return parse_run_config(read_yaml_sections(self.config_path), str(self.config_path))

    def status(self) -> Status | None:
        """How the run ended; None while it has not, or if `status.json` is damaged.

        Raises:
            ConfigError: the file is of a later format.
        """
        return _read(self.status_path, Status)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do: done or diverged. Failed runs are tried again."""
        status = self.status()
        return status is not None and status.status != "failed"

    def finish(self, status: Status) -> None:
        """Write `status.json` and drop the checkpoint of a run that needs it no more."""
        write_json(self.status_path, status.model_dump(mode="json"))
        if status.status != "failed":
            self.checkpoint_path.unlink(missing_ok=True)

    def retry(self) -> None:
        """Let a failed run be tried again; a run that has ended otherwise by now stays as it is."""
        status = self.status()
        if status is not None and status.status == "failed":
            self.status_path.unlink(missing_ok=True)

    def metrics(self) -> list[MetricsLine]:
        """All whole lines of `metrics.jsonl`, by step; a damaged line ends the list.

        Of a step that was written twice, by an owner that was taken over in that moment and by the
        one that took over, there is the later line.
        """
        lines: dict[int, MetricsLine] = {}
        if not self.metrics_path.exists():
            return []
        with self.metrics_path.open("rb") as file:
            for text in file:
                try:
                    line = from_json(text)
                    lines[line["step"]] = line
                except (ValueError, KeyError, TypeError):
                    break
        return [lines[step] for step in sorted(lines)]

    def append_metrics(self, line: MetricsLine) -> None:
        """Add a line to `metrics.jsonl`."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def rewind_metrics(self, step: int) -> None:
        """Drop what was written after `step`, so that a resumed run writes it exactly once."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        temporary = self.metrics_path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(self.metrics_path)

    def run_info(self) -> RunInfo | None:
        """What ran the run; None if `run.json` is absent or damaged.

        Raises:
            ConfigError: the file is of a later format.
        """
        return _read(self.run_path, RunInfo)

    def write_run_info(self, info: RunInfo) -> None:
        """Write `run.json`."""
        write_json(self.run_path, info.model_dump(mode="json"))


def _read(path: Path, kind: type[_AnyFile]) -> _AnyFile | None:
    content = read_json(path)
    if content is None:
        return None
    if isinstance(number := content.get("format", FORMAT), int) and number > FORMAT:
        raise ConfigError(
            f"{path}: format: expected at most {FORMAT} (got {number}): written by a later version"
        )
    try:
        return kind.model_validate(content)
    except ValidationError:
        return None
