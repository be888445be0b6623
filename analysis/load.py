"""Results of a sweep as tidy frames. The columns are described in `analysis/results/README.md`."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError

from analysis.arms import ARM_COLUMNS, Arm
from analysis.searches import TRIAL_COLUMNS, read_trials
from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError, explain
from paper_repro.files import write_atomically
from paper_repro.records import MetricsLine, Record, RunInfo, Status
from paper_repro.records.comparable import Training, differences
from paper_repro.records.migrate import check_ids, is_current

log = logging.getLogger(__name__)

#: The committed results, a Parquet file a sweep; found also from where a notebook runs.
COMMITTED_RESULTS = Path(__file__).parent / "results"

#: What a frame takes from `run.json` beside its `data` section.
RUN_COLUMNS = ("parameters", "device", "dtype", "code_hash", "git_revision", "factory_hash")

#: What of `status.json` is no result: its format, and a place on one machine.
NO_RESULT = frozenset({"format", "log"})

CURVE_COLUMNS = ("run_id", *MetricsLine.__annotations__)

#: The end of the name of a file with the learning curves of a sweep.
CURVES = "_curves"
#: The same for the trials of its searches.
TRIALS = "_trials"


@dataclass(frozen=True, eq=False)
class Results:
    """The results of a sweep."""

    runs: pd.DataFrame
    """One row a run that has an outcome, ordered by run id.

    Columns: `sweep`, `run_id`; `config`, the whole `RunConfig` as JSON; every field of it under its
    dotted path (`model.width`, `hyperparameters.lr`; mappings and lists as JSON); every value of
    `status.json` (`status`, `val_loss`, ...) and of the data section of `run.json`
    (`bigram_entropy`, ...); and the arm by which the run is read (`analysis.arms.ARM_COLUMNS`).
    The `val_loss` of a diverged run is +inf, that of a failed one NaN (nats).
    """
    curves: pd.DataFrame
    """The learning curves of these runs, one row a line of `metrics.jsonl` (`CURVE_COLUMNS`);
    empty for committed results whose figures need none."""
    trials: pd.DataFrame
    """The trials of its searches (`analysis.searches.read_trials`); empty where it has none."""


def load_sweep(runs_dir: Path, sweep: str, only: Collection[str] | None = None) -> Results:
    """Read the records of a sweep.

    A record whose configuration is not that of its id (copied, edited) is left out with a warning.
    Runs on other texts or in other precisions than each other are named in one.

    Args:
        only: ids of runs; those that differ from one of them in more than the seed are left out.

    Raises:
        ConfigError: if there is no run with an outcome, a record is damaged, or records have ids of
            an earlier version.
    """
    directory = runs_dir / sweep
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no records of sweep {sweep!r} (launch it first)")
    check_ids(directory)
    rows, derived = [], []
    curves: dict[str, list[Any]] = {name: [] for name in CURVE_COLUMNS}
    for record in map(Record, sorted(directory.iterdir())):
        status = record.status() if record.config_path.is_file() else None
        if status is None:
            continue
        config, run_id = record.config(), record.directory.name
        if config.run_id != run_id:
            log.warning(
                "%s: left out: its config.yaml is of run %s", record.directory, config.run_id
            )
            continue
        identity = {"sweep": sweep, "run_id": run_id, "config": config.model_dump_json()}
        rows.append(identity | _outcome(status) | _details(record.run_info()))
        derived.append(_derived(config))
        lines = record.metrics()
        curves["run_id"] += [run_id] * len(lines)
        for name in MetricsLine.__annotations__:
            curves[name] += [line.get(name) for line in lines]
    if not rows:
        raise ConfigError(f"{directory}: no run has an outcome yet (launch the sweep first)")
    runs = _with_derived(pd.DataFrame(rows), derived)
    if only is not None:
        runs = _only(runs, only)
    _warn_of_differences(runs, directory)
    every = pd.DataFrame(curves)
    of_runs = every[every["run_id"].isin(runs["run_id"])].reset_index(drop=True)
    return Results(runs, of_runs, read_trials(directory))


def _only(runs: pd.DataFrame, ids: Collection[str]) -> pd.DataFrame:
    """The runs of these ids, and those that differ from one of them in the seed alone."""
    but_seed = [
        RunConfig.model_validate_json(text).model_copy(update={"seed": 0}).run_id
        for text in runs["config"]
    ]
    points = pd.Series(but_seed, runs.index)
    return runs[points.isin(points[runs["run_id"].isin(ids)])].reset_index(drop=True)


def _warn_of_differences(runs: pd.DataFrame, source: Path) -> None:
    """Name what differs between runs and must not where they are compared."""
    names = ["data.corpus", "data.tokenizer", "data.validation_fraction", "corpus_hash", "dtype"]
    rows = runs.reindex(columns=names).astype(object)
    rows = rows.where(rows.notna(), None)
    for difference in differences(map(Training._make, rows.to_numpy())):
        log.warning("%s: not comparable: %s", source, difference)


def save_results(results: Results, path: Path, curves: bool = False) -> None:
    """Write results as Parquet, atomically; the arm is left out, which is in the configuration.

    The trials of searches go to `<sweep>_trials.parquet`.

    Args:
        curves: whether to write the learning curves too, to `<sweep>_curves.parquet`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = {path: results.runs.drop(columns=list(ARM_COLUMNS))}
    if curves or curves_path(path).exists():  # older ones would not be of these runs
        frames[curves_path(path)] = results.curves
    if len(results.trials):
        frames[trials_path(path)] = results.trials
    for target, frame in frames.items():
        write_atomically(target, lambda file, frame=frame: frame.to_parquet(file, index=False))  # type: ignore[misc]


def load_results(path: Path) -> Results:
    """Read what `save_results` wrote, with learning curves and trials if they are there.

    Raises:
        ConfigError: if the file is absent, is not Parquet, or is of an earlier version.
    """
    runs = _read_parquet(path)
    missing = {"sweep", "run_id", "status", "val_loss"} - set(runs)
    if missing:
        raise ConfigError(f"{path}: no results: without the columns {', '.join(sorted(missing))}")
    if "config" not in runs or not runs["run_id"].map(is_current).all():
        raise ConfigError(
            f"{path}: results of an earlier version; carry them over: "
            f"python -m paper_repro.records.migrate {path}"
        )
    curves = pd.DataFrame(columns=list(CURVE_COLUMNS))
    if curves_path(path).exists():
        curves = _read_parquet(curves_path(path))
    trials = pd.DataFrame(columns=list(TRIAL_COLUMNS))
    if trials_path(path).exists():
        trials = _read_parquet(trials_path(path))
    runs = _with_derived(runs, [_derived(config) for config in _configs(runs, path)])
    _warn_of_differences(runs, path)
    return Results(runs, curves, trials)


def curves_path(path: Path) -> Path:
    """Where the learning curves of a file of results are."""
    return path.with_name(f"{path.stem}{CURVES}.parquet")


def trials_path(path: Path) -> Path:
    """Where the trials of a file of results are."""
    return path.with_name(f"{path.stem}{TRIALS}.parquet")


def config_columns(config: BaseModel) -> dict[str, Any]:
    """The fields of a config under their dotted paths.

    Free mappings and lists stay one column, so that the columns are the same for every sweep.
    """
    return _columns(config, config.model_dump(mode="json"), "")


def _columns(config: BaseModel, plain: dict[str, Any], prefix: str) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, value in vars(config).items():
        if isinstance(value, BaseModel):
            columns |= _columns(value, plain[name], f"{prefix}{name}.")
        else:
            free = isinstance(value, dict | list)
            columns[prefix + name] = json.dumps(plain[name], sort_keys=True) if free else value
    return columns


def _configs(runs: pd.DataFrame, source: Path) -> Iterator[RunConfig]:
    for run_id, text in zip(runs["run_id"], runs["config"], strict=True):
        try:
            yield RunConfig.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(f"{source}: {run_id}: config: {explain(error)}") from None


def _derived(config: RunConfig) -> dict[str, Any]:
    """The columns that follow from `config`: also fields newer than a file."""
    return config_columns(config) | Arm.of(config).columns()


def _with_derived(runs: pd.DataFrame, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The runs with these columns in place of those of the same name, the arm's at the end."""
    derived = pd.DataFrame(rows, index=runs.index)
    identity = runs[["sweep", "run_id", "config"]]
    others = runs.drop(columns=[*identity, *derived], errors="ignore")
    fields = derived.drop(columns=list(ARM_COLUMNS))
    return pd.concat([identity, fields, others, derived[list(ARM_COLUMNS)]], axis=1)


def _outcome(status: Status) -> dict[str, Any]:
    columns = {name: value for name, value in status if name not in NO_RESULT}
    if status.val_loss is None:
        columns["val_loss"] = math.inf if status.status == "diverged" else math.nan
    return columns


def _details(info: RunInfo | None) -> dict[str, Any]:
    if info is None:
        return {}
    return dict(info.data) | {name: getattr(info, name) for name in RUN_COLUMNS}


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such results (pass --runs-dir to make them)") from None
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise ConfigError(f"{path}: not a readable Parquet file ({error})") from None
