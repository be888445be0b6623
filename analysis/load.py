"""Records of a sweep as tidy frames. The columns are described in `analysis/results/README.md`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

import pandas as pd
import yaml
from pydantic import BaseModel

from paper_repro.config import RunConfig, parse_run_config
from paper_repro.errors import ConfigError
from paper_repro.files import write_atomically
from paper_repro.records import Record

# libyaml reads ten times faster than the Python loader, which matters for thousands of records.
# A record's config was written by this project, so the strictness for hand-written files is moot.
_YamlLoader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: The committed results, a Parquet file a sweep; found also from where a notebook runs.
COMMITTED_RESULTS = Path(__file__).parent / "results"

#: What a frame takes from `run.json` beside its `data` section.
_RUN_COLUMNS = ("parameters", "device", "code_hash", "git_revision")


def load_sweep(runs_dir: Path, sweep: str) -> pd.DataFrame:
    """One row a run that has an outcome, ordered by run id.

    Columns: `sweep`, `run_id`; every field of the config under its dotted path (`model.width`,
    `hyperparameters.lr`; mappings and lists as JSON text); every plain value of `status.json`
    (`status`, `val_loss`, `tokens_per_second`, ...) and of the data section of `run.json`
    (`bigram_entropy`, `corpus_hash`, ...). The `val_loss` of a diverged run is +inf (nats).

    Raises:
        ConfigError: if there is no such run, or a record is damaged.
    """
    rows = []
    for record in _records(runs_dir, sweep):
        status = record.status()
        if status is None:
            continue
        info = record.run_info()
        run = info.model_dump() if info else {}
        config = _flatten(_read_config(record))
        details = {name: run.get(name) for name in _RUN_COLUMNS}
        identity = {"sweep": sweep, "run_id": record.directory.name}
        outcome = _outcome(status.model_dump(exclude={"format"}))
        rows.append(identity | config | outcome | _plain(run.get("data", {})) | details)
    if not rows:
        raise ConfigError(f"{runs_dir / sweep}: no run has an outcome yet (launch the sweep first)")
    return pd.DataFrame(rows)


def load_curves(runs_dir: Path, sweep: str) -> pd.DataFrame:
    """The metrics of all runs, finished or not, one row a line: `run_id`, `step`, `tokens`, losses.

    Raises:
        ConfigError: if the sweep has no records.
    """
    return pd.DataFrame(
        {"run_id": record.directory.name} | line
        for record in _records(runs_dir, sweep)
        for line in record.metrics()
    )


def save_results(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as Parquet, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: frame.to_parquet(temporary, index=False))


def load_results(path: Path) -> pd.DataFrame:
    """Read what `save_results` wrote.

    Raises:
        ConfigError: if the file is absent or is not Parquet.
    """
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such results (pass --runs-dir to make them)") from None
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise ConfigError(f"{path}: not a readable Parquet file ({error})") from None


def _records(runs_dir: Path, sweep: str) -> Iterator[Record]:
    directory = runs_dir / sweep
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no records of sweep {sweep!r} (launch it first)")
    for path in sorted(directory.iterdir()):
        record = Record(path)
        if record.config_path.is_file():
            yield record


def _read_config(record: Record) -> RunConfig:
    try:
        content = yaml.load(record.config_path.read_bytes(), Loader=_YamlLoader)
    except yaml.YAMLError:
        raise ConfigError(f"{record.config_path}: not valid YAML") from None
    return parse_run_config(content, str(record.config_path))


def _flatten(config: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Sections become dotted names; free mappings and lists stay one column, so that the columns
    are the same for every sweep."""
    columns: dict[str, Any] = {}
    for name, value in config:
        if isinstance(value, BaseModel):
            columns |= _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, dict | list):
            columns[prefix + name] = json.dumps(value, sort_keys=True)
        else:
            columns[prefix + name] = value
    return columns


def config_of(row: Mapping[Any, Any]) -> RunConfig:
    """The config of a row of a frame, from its columns.

    Raises:
        ConfigError: if they are not those of a config.
    """
    return parse_run_config(_unflatten(RunConfig, row), f"run {row['run_id']}")


def _unflatten(
    section: type[BaseModel], row: Mapping[Any, Any], prefix: str = ""
) -> dict[str, Any]:
    """The reverse of `_flatten`."""
    content: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        kind, value = field.annotation, row.get(prefix + name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            content[name] = _unflatten(kind, row, f"{prefix}{name}.")
        elif get_origin(kind) in (dict, list):
            content[name] = json.loads(str(value))
        else:
            content[name] = None if pd.isna(value) else value
    return content


def _outcome(status: dict[str, Any]) -> dict[str, Any]:
    columns = _plain(status)
    columns.pop("log", None)  # a place on one machine, no result
    if columns.get("val_loss") is None:
        columns["val_loss"] = math.inf if columns["status"] == "diverged" else math.nan
    return columns


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if not isinstance(value, dict | list)}
