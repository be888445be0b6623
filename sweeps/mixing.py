"""Whether the records of a sweep and what a launch would add to them can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from paper_repro.config import DataConfig
from paper_repro.errors import ConfigError
from paper_repro.records import Record
from paper_repro.records.comparable import Training, differences
from sweeps.plan import Plan


def check_identities(plan: Plan) -> None:
    """Check that finished runs are those that the sweep wants.

    Raises:
        ConfigError: a `config.yaml` was edited after its run had ended.
    """
    for run_id, record in plan.records.items():
        if plan.states[run_id].status is None or not _edited(record):
            continue
        if (found := record.config().run_id) != run_id:
            raise ConfigError(
                f"{record.config_path}: was changed, it is of run {found}; what is beside it is of "
                f"{run_id}: delete the directory, to train that run anew"
            )


def _edited(record: Record) -> bool:
    """Whether a configuration is newer than the outcome: few are, so few need be read."""
    paths = (record.config_path, record.status_path)
    return all(path.is_file() for path in paths) and paths[0].stat().st_mtime_ns > (
        paths[1].stat().st_mtime_ns
    )


def check_mixing(plan: Plan, hashes: Mapping[DataConfig, str], dtype: str) -> list[str]:
    """How the runs of a sweep's directory and those that are missing cannot be compared.

    Args:
        hashes: of the texts on which missing runs would be trained now.
        dtype: the precision of the launch.

    Raises:
        ConfigError: runs are to be done, and their text is not the one that others were trained on.
    """
    there = list(_trained(plan))
    now = [Training.on(data, corpus_hash, None) for data, corpus_hash in hashes.items()]
    for training in now:
        others = [t for t in there if t[:3] == training[:3] and t.corpus_hash]
        changed = [t for t in others if t.text_hash != training.text_hash]
        if changed and plan.to_do:
            raise ConfigError(
                f"{plan.sweep.path}: data.corpus {training.corpus!r} is another text by now: "
                f"{len(changed):,} runs in {plan.directory} were trained on "
                f"{str(changed[0].corpus_hash)[:12]}, it is {str(training.corpus_hash)[:12]}; give "
                "the sweep another name or --runs-dir, or put the text back"
            )
    new = [t._replace(dtype=dtype) for t in now] if plan.to_do else now
    return differences([*there, *new])


def _trained(plan: Plan) -> Iterator[Training]:
    """The finished runs in the directory of a sweep, also those of another seed."""
    directories = sorted(plan.directory.iterdir()) if plan.directory.is_dir() else []
    for record in map(Record, directories):
        if not record.finished or (info := record.run_info()) is None:
            continue
        config = plan.sweep.runs.get(record.directory.name)
        data = config.data if config else record.config().data
        yield Training.on(data, info.data.corpus_hash, info.dtype)
