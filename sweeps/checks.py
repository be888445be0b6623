"""What a launch checks before anything runs: figure, proposers, models, corpora.

Each check raises ConfigError with one line that names the sweep file and the key.
"""

from __future__ import annotations

import subprocess
import sys

from paper_repro.config import DataConfig, Execution, RunConfig
from paper_repro.errors import ConfigError
from paper_repro.search import check_installed
from sweeps.expand import Sweep
from sweeps.plan import Plan, edited, vocabulary_size


def check_figure(sweep: Sweep) -> None:
    """Check that the figure can be drawn in the end, without depending on its code."""
    if sweep.figure is None:
        return
    command = [sys.executable, "-m", "figures.check", sweep.figure]
    configs = () if sweep.searches else sweep.runs.values()  # a search's are not known yet
    lines = "\n".join(config.model_dump_json() for config in configs)
    asked = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    if asked.returncode:
        reason = asked.stderr.strip().splitlines()[-1].removeprefix("error: ")
        raise ConfigError(f"{sweep.path}: figure: {reason}")


def check_proposers(sweep: Sweep) -> None:
    """Check that whatever proposes the trials of searches is installed."""
    try:
        for search in sweep.searches:
            check_installed(search.proposer)
    except ConfigError as error:
        raise ConfigError(f"{sweep.path}: {error}") from None


def check_models(sweep: Sweep, execution: Execution, processes: int) -> None:
    """Check the models of factories: built, labelled, and one of them tried."""
    if not sweep.factories:
        return
    # They import torch, which a launch of our GPTs leaves to its workers.
    from paper_repro.apply.factory import check_models
    from paper_repro.training.foreign import check_execution

    foreign = [config for config in sweep.runs.values() if config.model.factory]
    for space in {search.space for search in sweep.searches}:  # a run with all that it may vary
        foreign.append(space.config(space.clip(0.1 for _ in space.coordinates), seed=0))
    by_vocabulary: dict[int, list[RunConfig]] = {}
    for config in foreign:
        by_vocabulary.setdefault(vocabulary_size(config), []).append(config)
    check_execution(execution, processes)
    try:
        for vocabulary, configs in by_vocabulary.items():
            check_models(configs, vocabulary)
    except ConfigError as error:
        raise ConfigError(f"{sweep.path}: model.factory: {error}") from None


def check_unedited(plan: Plan) -> None:
    """Check that what was trained is of the factories' code as it is: both are no comparison."""
    if found := edited(plan):
        count = f"{len(found):,} of its runs {'was' if len(found) == 1 else 'were'}"
        raise ConfigError(
            f"{plan.directory}: {count} trained by other code of {', '.join(plan.sweep.factories)} "
            f"(such as {found[0]}): give another --runs-dir, or delete them"
        )


def check_corpora(plan: Plan, dry_run: bool) -> tuple[dict[DataConfig, str], list[str]]:
    """Check that every corpus is there and long enough; builds its token files if need be.

    Where nothing is to do, a corpus may be absent.

    Returns:
        the content hashes of the corpora, and the names of those that were not checked: in a dry
        run, those that are on the hub.
    """
    from paper_repro.data import load_dataset
    from paper_repro.data.hub import on_hub

    runs: dict[DataConfig, list[RunConfig]] = {}
    for config in plan.sweep.runs.values():
        runs.setdefault(config.data, []).append(config)
    idle = dry_run or not plan.to_do
    unchecked = [data for data in runs if idle and on_hub(data.corpus)]
    hashes: dict[DataConfig, str] = {}
    for data, configs in runs.items():
        if data in unchecked:
            continue
        try:
            dataset = load_dataset(data)
            wanted = max(config.steps * config.train.batch_size for config in configs)
            dataset.check_length(sequences=wanted, max_epochs=data.max_epochs)
            for size, number in {(c.train.eval_sequences, c.train.eval_set) for c in configs}:
                dataset.validation_batches(size, 1, number)
        except ConfigError as error:
            if plan.to_do:
                raise ConfigError(f"{plan.sweep.path}: {error}") from None
        else:
            hashes[data] = dataset.corpus_hash
    return hashes, list(dict.fromkeys(data.corpus for data in unchecked))
