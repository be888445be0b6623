"""`python -m paper_repro.records.migrate PATH ...`: carry records and results over to today's ids.

A run's id is the hash of what differs from the defaults (`RunConfig.run_id`); ids of before that,
or of other defaults, are known by their form. A record is renamed, and a row of results gets its
new id, so nothing is trained again. To be run while no job works on the records.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel

from paper_repro.command import command
from paper_repro.config import DEFAULTS_VERSION, RunConfig, parse_run_config
from paper_repro.errors import ConfigError
from paper_repro.files import write_atomically
from paper_repro.paths import given_path
from paper_repro.records.lease import is_leased
from paper_repro.records.record import Record

_RUN_ID = re.compile(r"(?:d(\d+)-)?[0-9a-f]{12}")
_ID_IN_TEXT = re.compile(r"\b(?:d\d+-)?[0-9a-f]{12}\b")

SEARCHES = "search"
"""The folder of the searches of a sweep (`paper_repro.search`, which stands above this)."""


def is_current(run_id: str) -> bool:
    """Whether an id is of today's form and defaults."""
    form = _RUN_ID.fullmatch(run_id)
    return form is not None and form[1] == str(DEFAULTS_VERSION)


def old_records(sweep_dir: Path) -> list[Path]:
    """The directories in `sweep_dir` that have the form of a run id, but not of today's."""
    if not sweep_dir.is_dir():
        return []
    names = sorted(path.name for path in sweep_dir.iterdir())
    return [sweep_dir / name for name in names if _RUN_ID.fullmatch(name) and not is_current(name)]


def check_ids(sweep_dir: Path) -> None:
    """Refuse records of earlier ids: their runs would be trained again.

    Raises:
        ConfigError: there are some; the message names the command that carries them over.
    """
    if old := old_records(sweep_dir):
        raise ConfigError(
            f"{sweep_dir}: {len(old)} records have ids of an earlier version, such as "
            f"{old[0].name}; carry them over, which trains nothing again: "
            f"python -m paper_repro.records.migrate {sweep_dir.parent}"
        )


def migrate_record(directory: Path) -> Path:
    """Rename a record to today's id of its run; where it is now.

    Raises:
        ConfigError: its configuration is damaged, a worker has it, or the new name is taken.
    """
    target = directory.with_name(Record(directory).config().run_id)
    if is_leased(directory):
        raise ConfigError(f"{directory}: a worker trains it; stop it, or wait for its end")
    if target.exists():
        raise ConfigError(f"{directory}: {target.name} is there too; remove one of them")
    return directory.rename(target)


def migrate_rounds(sweep_dir: Path) -> None:
    """Give the runs of searches today's ids in their rounds. To be done before records are renamed.

    Raises:
        ConfigError: the configuration of a record is damaged.
    """
    rounds = sorted((sweep_dir / SEARCHES).glob("*/*.json"))
    if rounds:
        old = old_records(sweep_dir)
        ids = {directory.name: Record(directory).config().run_id for directory in old}
        for path in rounds:
            text = path.read_text(encoding="utf-8")
            _write_text(path, _with_new_ids(text, ids))


def migrate_results(path: Path) -> int:
    """Give the rows of a Parquet file of results today's ids and the column `config`.

    The files of curves and trials beside it get the new ids too. Returns how many rows had others.

    Raises:
        ConfigError: it is no such file, or a row's columns are not those of a configuration.
    """
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise ConfigError(f"{path}: not a readable Parquet file ({error})") from None
    if not {"run_id", "seed"} <= set(frame):
        raise ConfigError(f"{path}: expected the columns of results, such as run_id and seed")
    configs = [_config(row, f"{path}: {row['run_id']}") for row in frame.to_dict("records")]
    ids = [config.run_id for config in configs]
    _migrate_beside(path, dict(zip(frame["run_id"], ids, strict=True)))
    changed = int((frame["run_id"] != ids).sum())
    if changed or "config" not in frame:
        texts = [config.model_dump_json() for config in configs]
        frame = frame.drop(columns="config", errors="ignore").assign(run_id=ids)
        frame.insert(2, "config", texts)
        frame = frame.sort_values("run_id")
        write_atomically(path, lambda temporary: frame.to_parquet(temporary, index=False))
    return changed


def _migrate_beside(path: Path, ids: Mapping[str, str]) -> None:
    """New ids in the files that belong to a file of results: first, for what is cut off here is
    done when it is done again."""
    import pandas as pd

    for beside in path.parent.glob(f"{path.stem}_*.parquet"):
        frame = pd.read_parquet(beside)
        columns = [name for name in ("run_id", "runs", "definition") if name in frame]
        if "config" in frame or not columns:  # the results of another sweep
            continue
        new = {name: frame[name].map(lambda text: _with_new_ids(text, ids)) for name in columns}
        changed = frame.assign(**new)
        if not changed.equals(frame):
            write_atomically(beside, lambda file, new=changed: new.to_parquet(file, index=False))  # type: ignore[misc]


def _with_new_ids(text: str, ids: Mapping[str, str]) -> str:
    """A text with the run ids in it exchanged."""
    return _ID_IN_TEXT.sub(lambda found: ids.get(found[0], found[0]), text)


def _write_text(path: Path, text: str) -> None:
    if text != path.read_text(encoding="utf-8"):
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _config(row: Mapping[Any, Any], source: str) -> RunConfig:
    if "config" in row:
        return RunConfig.model_validate_json(row["config"])
    return parse_run_config(_unflatten(RunConfig, row), source)


def _unflatten(
    section: type[BaseModel], row: Mapping[Any, Any], prefix: str = ""
) -> dict[str, Any]:
    """Nested sections from dotted columns; what a row does not have is at its default."""
    content: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        kind, value = field.annotation, row.get(prefix + name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            content[name] = _unflatten(kind, row, f"{prefix}{name}.")
        elif value is None or value != value:  # NaN is how a column of numbers has None
            continue
        else:
            content[name] = json.loads(value) if get_origin(kind) in (dict, list) else value
    return content


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 if something could not be carried over; the rest is carried over."""
    parser = argparse.ArgumentParser(
        prog="python -m paper_repro.records.migrate",
        description="Carry records and results of earlier versions over to today's run ids.",
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        type=given_path,
        nargs="+",
        help="a directory of runs (runs/<sweep>/<run id>/), or a Parquet file of results",
    )
    code = 0
    for path in _targets(parser.parse_args(argv).paths):
        try:
            if path.name == SEARCHES:
                migrate_rounds(path.parent)
            elif path.is_dir():
                print(f"{path} -> {migrate_record(path).name}")
            else:
                print(f"{path}: {migrate_results(path)} rows have new ids")
        except ConfigError as error:
            code = 2
            print(f"error: {error}", file=sys.stderr)
    return code


def _targets(paths: Sequence[Path]) -> Iterator[Path]:
    """Files as they are; of each sweep in a directory of runs its searches and its old records."""
    for path in paths:
        if path.is_dir():
            for sweep_dir in sorted(path.iterdir()):
                if old_records(sweep_dir):
                    yield sweep_dir / SEARCHES
                yield from old_records(sweep_dir)
        else:
            yield path


if __name__ == "__main__":
    sys.exit(main())
