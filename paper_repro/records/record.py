"""A record: the directory `runs/<sweep>/<run id>/` that one run leaves behind.

    config.yaml     the resolved RunConfig
    run.json        what ran it: versions, code, corpus hash, device, optimiser groups
    metrics.jsonl   one object a line: step, tokens, lr_scale, train_loss, at times val_loss
    checkpoint.pt   while the run is unfinished
    status.json     written last: done, diverged or failed, final losses, speed, memory
    error.txt       traceback of the last failure
    claims/         who works on it (`paper_repro.records.lease`)

The state of a run is what these files say; nothing else remembers it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from paper_repro.config import RunConfig, parse_run_config
from paper_repro.errors import ConfigError
from paper_repro.files import read_json, read_yaml, write_json, write_yaml

Outcome = Literal["done", "diverged", "failed"]

#: Sizes of a sweep: for two cores, for one large GPU, and near the paper's own shapes.
Size = Literal["cpu", "gpu", "paper"]
SIZES: tuple[Size, ...] = get_args(Size)


def sized_name(sweep: str, size: Size) -> str:
    """What the records and results of a sweep are called at a size: `cpu` adds nothing."""
    return sweep if size == "cpu" else f"{sweep}_{size}"


@dataclass(frozen=True)
class Record:
    """The files of one run. Creating the object touches nothing on disk."""

    directory: Path

    @property
    def config_path(self) -> Path:
        return self.directory / "config.yaml"

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
    def run_path(self) -> Path:
        return self.directory / "run.json"

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
        return parse_run_config(read_yaml(self.config_path), str(self.config_path))

    def status(self) -> dict[str, Any] | None:
        """The content of `status.json`; None while the run has no outcome (or it is damaged)."""
        content = read_json(self.status_path)
        return content if content and content.get("status") in get_args(Outcome) else None

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do: done or diverged. Failed runs are tried again."""
        status = self.status()
        return status is not None and status["status"] != "failed"

    def finish(self, outcome: Outcome, **fields: Any) -> None:
        """Write `status.json` and drop the checkpoint of a run that needs it no more."""
        write_json(self.status_path, {"status": outcome, **fields})
        if outcome != "failed":
            self.checkpoint_path.unlink(missing_ok=True)

    def metrics(self) -> list[dict[str, Any]]:
        """All whole lines of `metrics.jsonl`, by step; a line cut short by a crash ends the list.

        Of a step that was written twice, by an owner that was taken over in that moment and by the
        one that took over, there is the later line.
        """
        lines: dict[int, dict[str, Any]] = {}
        if not self.metrics_path.exists():
            return []
        with self.metrics_path.open(encoding="utf-8") as file:
            for text in file:
                try:
                    line = json.loads(text)
                except ValueError:
                    break
                lines[line["step"]] = line
        return [lines[step] for step in sorted(lines)]

    def append_metrics(self, line: dict[str, Any]) -> None:
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def rewind_metrics(self, step: int) -> None:
        """Drop what was written after `step`, so that a resumed run writes it exactly once."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        temporary = self.metrics_path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(self.metrics_path)

    def run(self) -> dict[str, Any] | None:
        """The content of `run.json`; None if it is absent or damaged."""
        return read_json(self.run_path)

    def write_run(self, content: dict[str, Any]) -> None:
        write_json(self.run_path, content)

    def write_error(self, text: str) -> None:
        self.error_path.write_text(text, encoding="utf-8")

    def clear_error(self) -> None:
        self.error_path.unlink(missing_ok=True)


class LeadersRecord(Record):
    """The record of the process that leads, to another that trains the run with it.

    It can be read. What is written goes nowhere, since the leader writes the same.
    """

    def finish(self, outcome: Outcome, **fields: Any) -> None:
        pass

    def append_metrics(self, line: dict[str, Any]) -> None:
        pass

    def rewind_metrics(self, step: int) -> None:
        pass

    def write_run(self, content: dict[str, Any]) -> None:
        pass

    def write_error(self, text: str) -> None:
        pass

    def clear_error(self) -> None:
        pass


def record_of(runs_dir: Path, sweep: str, config: RunConfig) -> Record:
    """Where the record of a run of a sweep lives."""
    return Record(runs_dir / sweep / config.run_id)
