"""`python -m analysis.export SWEEP --to tensorboard`: learning curves for TensorBoard or W&B.

One run there is one run here: its configuration as hyperparameters, its `metrics.jsonl` as curves,
its `status.json` as final results. Records are only read, so it may be called while runs go on, and
again: what is there already is not written twice.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from analysis.load import config_columns
from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.files import read_json, write_json
from paper_repro.records import MetricsLine, Record, Status
from paper_repro.records.migrate import check_ids

log = logging.getLogger(__name__)

#: What of `status.json` is a result, beside how the run ended.
RESULTS = ("val_loss", "train_loss", "tokens_per_second", "wall_seconds", "flops")

EPILOG = """\
With --follow it goes on until every run has ended. Of a run that is resumed after a kill, steps
that were written before it stay as they are.

W&B asks for no account with --offline, or with WANDB_MODE=offline; `wandb sync` sends what it left.

exit code: 0, or 2 if there are no such records, the package is missing, or another export is
writing to the same place."""


@dataclass(frozen=True)
class ExportedRun:
    """A run, and what its record says now."""

    sweep: str
    run_id: str
    config: RunConfig
    lines: Sequence[MetricsLine]
    status: Status | None

    @property
    def name(self) -> str:
        return f"{self.sweep}-{self.run_id}"

    @property
    def ended(self) -> bool:
        """Whether nothing will follow; a failed run is tried again."""
        return self.status is not None and self.status.status != "failed"

    def hyperparameters(self) -> dict[str, bool | int | float | str]:
        """Its configuration under dotted names; mappings and lists as JSON."""
        columns = config_columns(self.config)
        return {key: "none" if value is None else value for key, value in columns.items()}

    def results(self) -> dict[str, float]:
        """What it ended with; NaN for what is not finite."""
        found = {f"final/{name}": getattr(self.status, name, None) for name in RESULTS}
        return {name: math.nan if value is None else float(value) for name, value in found.items()}


#: Of a step or of a run's end, what is written last: where it is, all of that is.
LAST_OF_STEP, LAST_OF_RUN = "train_loss", f"final/{RESULTS[-1]}"


def scalars(line: MetricsLine) -> dict[str, float]:
    """The numbers of a line of metrics, without its step; NaN for what is not finite."""
    content: dict[str, Any] = {**line}
    del content["step"]
    content[LAST_OF_STEP] = content.pop(LAST_OF_STEP)
    return {name: math.nan if each is None else float(each) for name, each in content.items()}


def read_runs(runs_dir: Path, sweep: str) -> Iterator[ExportedRun]:
    """The runs of a sweep that have begun, by run id.

    Raises:
        ConfigError: there are no such records, they are of an earlier version, or one is damaged.
    """
    directory = runs_dir / sweep
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no records of sweep {sweep!r} (launch it first)")
    check_ids(directory)
    for record in map(Record, sorted(directory.iterdir())):
        if not record.config_path.is_file():
            continue
        config, run_id = record.config(), record.directory.name
        status = record.status()  # before the lines, so that those of an ended run are all there
        if config.run_id != run_id:
            log.warning("%s: left out: its config.yaml is of %s", record.directory, config.run_id)
            continue
        if lines := record.metrics():
            yield ExportedRun(sweep, run_id, config, lines, status)


class Destination(Protocol):
    """Where runs are exported to."""

    def update(self, run: ExportedRun) -> int:
        """Write what is new of a run; returns the number of lines of metrics."""

    def close(self) -> None:
        """End what is open, so that all of it is on disk."""


class TensorBoard:
    """Event files, in a directory a run; what they hold says what is new."""

    def __init__(self, output: Path) -> None:
        self._tensorboard: Any = importlib.import_module("torch.utils.tensorboard")
        self._output = output
        self._writers: dict[str, Any] = {}
        self._written: dict[str, tuple[int, bool]] = {}
        """The last step of a run that is on disk, and whether its results are."""

    def update(self, run: ExportedRun) -> int:
        directory = self._output / run.sweep / run.run_id
        if run.name not in self._written:
            self._written[run.name] = _on_disk(directory)
        last, ended = self._written[run.name]
        lines = [line for line in run.lines if line["step"] > last]
        if not lines and ended >= run.ended:
            return 0
        if run.name not in self._writers:
            self._writers[run.name] = self._tensorboard.SummaryWriter(str(directory))
        writer = self._writers[run.name]
        if last < 0:
            self._hyperparameters(writer, run)
        for line in lines:
            for name, value in scalars(line).items():
                writer.add_scalar(name, value, line["step"])
        last = max(last, run.lines[-1]["step"])
        if run.ended and not ended:
            for name, value in run.results().items():
                writer.add_scalar(name, value, last)
        writer.flush()
        self._written[run.name] = (last, run.ended)
        if run.ended:
            self._writers.pop(run.name).close()
        return len(lines)

    def _hyperparameters(self, writer: Any, run: ExportedRun) -> None:
        """What the page HPARAMS shows, in the run's own files (`add_hparams` makes another run)."""
        metrics = dict.fromkeys(("val_loss", *run.results()), 0.0)
        for summary in self._tensorboard.summary.hparams(run.hyperparameters(), metrics):
            writer.file_writer.add_summary(summary)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


def _on_disk(directory: Path) -> tuple[int, bool]:
    """The last step that the event files of a run hold, -1 without any, and whether results are."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    last, ended = -1, False
    for path in sorted(directory.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                ended |= value.tag == LAST_OF_RUN
                if value.tag == LAST_OF_STEP:
                    last = max(last, event.step)
    return last, ended


class WeightsAndBiases:
    """Runs of Weights & Biases, in a group a sweep; a file a run remembers what was sent."""

    def __init__(self, output: Path, project: str, offline: bool) -> None:
        self._wandb: Any = importlib.import_module("wandb")
        self._output, self._project, self._offline = output, project, offline
        self._open: dict[str, tuple[Any, int]] = {}
        """Runs that go on, and the last step that each has."""
        self._seen: dict[str, dict[str, Any]] = {}

    def update(self, run: ExportedRun) -> int:
        state = {"step": run.lines[-1]["step"], "ended": run.ended}
        if self._seen.get(run.name, read_json(self._marker(run.name))) == state:
            return 0
        if run.name not in self._open:
            self._open[run.name] = self._begin(run)
        there, last = self._open[run.name]
        lines = [line for line in run.lines if line["step"] > last]
        for line in lines:
            there.log(scalars(line), step=line["step"])
        self._open[run.name] = (there, max(last, run.lines[-1]["step"]))
        self._seen[run.name] = state
        if run.ended and run.status:
            there.summary.update({**run.results(), "status": run.status.status})
            self._finish(run.name)
        return len(lines)

    def _begin(self, run: ExportedRun) -> tuple[Any, int]:
        """A run there, and the last step that it has."""
        if self._offline:  # what an earlier export left of it is written anew, whole
            for earlier in (self._output / "wandb").glob(f"offline-run-*-{run.name}"):
                shutil.rmtree(earlier)
        try:
            there = self._wandb.init(
                project=self._project,
                id=run.name,
                name=run.run_id,
                group=run.sweep,
                config=run.hyperparameters(),
                dir=str(self._output),
                mode="offline" if self._offline else "online",
                resume=None if self._offline else "allow",
                reinit="create_new",
                settings=self._wandb.Settings(silent=True, console="off", x_disable_stats=True),
            )
        except self._wandb.Error as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"--to wandb: {reason} (--offline needs no account)") from None
        return there, int(there.step) - 1

    def _finish(self, name: str) -> None:
        there, _ = self._open.pop(name)
        there.finish()
        write_json(self._marker(name), self._seen[name])

    def _marker(self, name: str) -> Path:
        return self._output / f"{name}.json"

    def close(self) -> None:
        for name in list(self._open):
            self._finish(name)


def export(
    destination: Destination, runs_dir: Path, sweeps: Sequence[str], every: float | None = None
) -> int:
    """Write what is new of all runs of sweeps; returns the number of lines of metrics.

    Args:
        every: seconds between looks, to go on until every run has an outcome; None: look once.
    """
    written = 0
    while True:
        complete = every is None or _complete(runs_dir, sweeps)  # asked first: no line is missed
        for sweep in sweeps:
            written += sum(map(destination.update, read_runs(runs_dir, sweep)))
        if complete or every is None:
            return written
        time.sleep(every)


def _complete(runs_dir: Path, sweeps: Sequence[str]) -> bool:
    paths = [path for sweep in sweeps for path in (runs_dir / sweep).glob("*/config.yaml")]
    return all(Record(path.parent).status() is not None for path in paths)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Keep other exports from the same place; the system forgets the lock of a killed process."""
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{output}: another export is writing there") from None
        yield


def main(argv: Sequence[str] | None = None) -> int:
    """Export sweeps; returns the exit code."""
    options = _parser().parse_args(argv)
    logging.basicConfig(format="%(message)s")
    output = options.output or Path("exported") / options.to
    try:
        with _alone(output):
            destination = _destination(options, output)
            try:
                written = export(destination, options.runs_dir, options.sweeps, options.follow)
            finally:
                destination.close()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or output}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"{output}: {written:,} new lines of metrics")
    return 0


def _destination(options: argparse.Namespace, output: Path) -> Destination:
    offline = options.offline or os.environ.get("WANDB_MODE") == "offline"
    try:
        if options.to == "tensorboard":
            return TensorBoard(output)
        return WeightsAndBiases(output, options.project, offline)
    except ImportError as error:
        install = f"pip install -e '.[{options.to}]'"
        raise ConfigError(f"--to {options.to}: {error}; {install}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.export",
        description=(__doc__ or "").partition("\n\n")[2],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("sweeps", nargs="+", metavar="SWEEP", help="names of folders of records")
    add("--to", choices=("tensorboard", "wandb"), required=True)
    add("--runs-dir", type=Path, default=Path("runs"), help="default: runs")
    add(
        "--output", type=Path, metavar="DIR", help="default: exported/tensorboard or exported/wandb"
    )
    add(
        "--follow",
        type=float,
        nargs="?",
        const=10.0,
        metavar="SECONDS",
        help="go on until every run has ended, looking every 10 seconds or so many",
    )
    add("--project", default="paper_repro", help="of W&B, default paper_repro")
    add("--offline", action="store_true", help="of W&B: write files, send nothing")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
