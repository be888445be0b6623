"""The tables of results: `python -m analysis.tables` writes them from the committed runs.

- `transfer_table.csv`: does the optimum transfer? A row for each parameterisation and axis.
- `shared_shapes.csv`: what the curves over a hyperparameter share, for whoever estimates with it.
- `optima.csv`: what it was at each scale, for the arms of the figures.
- `duration_exponents.csv` and `duration_effects.csv`: how the best rate falls with duration, and
  what changes that.
- `proposers.csv`: what searches found after how many trials, by what proposed them;
  `proposer_differences.csv`, how far two of these are apart.
- `tuned_global.csv`: what tuning the global hyperparameters at a proxy gains, there and elsewhere.
- `attribution.csv`: what of the per-module hyperparameters gains at the proxy; rules beside them.
- `speedup.csv`: what tuning per module gains over the tuned global set, at the proxy and at larger
  scales; `speedup_shuffled.csv`, the same of the control, and `speedup_slopes.csv`, its change.
- `seed_variance.csv`: of what the spread over seeds comes.
- `precision.csv`: what bfloat16 changes, in runs of `lr_width` trained in both precisions.
- `schedule_laws.csv`: how laws of the loss along a schedule do on held-out schedules, durations and
  sizes; `schedule_divergence.csv`, how models of divergence do.
- `annealings.csv`: how annealings that searches found do at fresh seeds, beside each other.
- `loss_differences.csv`: the loss under one rule less that under another; `embedding.csv`: whether
  the learning rate of the embedding is what μP has over SP.
- `optimum_laws.csv`: which recipe for the learning rate costs least at held-out targets; with the
  public grids, of which `analysis.public_runs` has the numbers.
- `loss_laws.csv` and `loss_law_differences.csv`: L = E + A·D^−b with and without the SDE rule.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from analysis.annealings import annealings
from analysis.arms import AXES, LR
from analysis.attribution import attribution
from analysis.comparisons import embedding, loss_differences
from analysis.duration import Conditions, effects, exponents, fit_conditions
from analysis.final_losses import duration_laws
from analysis.ladder import SHUFFLED, arms_of_ladder, slopes, speedup_table
from analysis.load import COMMITTED_RESULTS, CURVES, TRIALS, Results, load_results
from analysis.optimum_laws import SWEEPS, optimum_laws, with_public
from analysis.pooled import Shared
from analysis.pooled_transfer import AllShared, learn_all, pooled_optima, transfer_rows
from analysis.precision import precision
from analysis.report import Columns, readable, scale_range
from analysis.schedule_laws.tables import our_tables
from analysis.searches import race, race_differences, with_losses
from analysis.studies import STUDIES, Base, Study
from analysis.transfer import fit_transfer
from analysis.tuned import tuned_global
from analysis.variance import components
from paper_repro.command import command
from paper_repro.errors import ConfigError
from paper_repro.files import write_atomically
from paper_repro.parameterization.page import markdown_table
from paper_repro.paths import check_writable, given_path

DURATION_TABLES = (
    *("duration_exponents", "duration_effects"),
    *("loss_laws", "loss_law_differences"),
)

FACTORS = {"lr_duration": "lr_duration", "transfer_duration": "duration_factors"}
"""Where conditions are changed that a study along duration has, by its name."""

Tables = dict[str, pd.DataFrame]
"""Tables by the name of their file."""


def _race(results: Results, _: Path) -> Tables:
    trials = with_losses(results.trials, results.runs)
    tables = {"proposers": race(trials), "proposer_differences": race_differences(trials)}
    sweep = results.runs["sweep"].iloc[0]
    # None before a search is at its end.
    return {name: table.assign(sweep=sweep) for name, table in tables.items() if len(table)}


def _ladder(results: Results, results_dir: Path) -> Tables:
    arms = arms_of_ladder(results.runs, results_dir)
    made = {
        "speedup": speedup_table(results, arms),
        "speedup_shuffled": speedup_table(results, arms, SHUFFLED),
        "speedup_slopes": slopes(results, arms),
    }
    return {name: table.assign(size="cpu") for name, table in made.items()}


def _precision(results: Results, results_dir: Path) -> Tables:
    float32 = load_results(results_dir / "lr_width.parquet").runs
    return {"precision": precision(results.runs, float32, AXES["width"])}


OTHERS: dict[str, Callable[[Results, Path], Tables]] = {
    "tuned_global": lambda results, folder: {"tuned_global": tuned_global(results, folder)},
    "search_global": _race,
    "search_modules": _race,
    "search_layers": _race,
    "modules_arms": lambda results, folder: {"attribution": attribution(results, folder)},
    "ladder": _ladder,
    "seed_variance": lambda results, _: {"seed_variance": components(results.runs)},
    "schedules": lambda results, _: our_tables(results),
    "annealings": lambda results, folder: {"annealings": annealings(results, folder)},
    "precision": _precision,
}
"""The tables of sweeps that are no study, from their results and the folder of what was tuned."""


def all_tables(results_dir: Path) -> Tables:
    """Every table by the name of its file, of every study and size with results.

    `transfer_table` has the rows of `analysis.pooled_transfer.transfer_rows`. Shapes of curves are
    learnt from all studies that there are, so a study more moves the pooled numbers of the others.
    """
    parts: dict[str, list[pd.DataFrame]] = defaultdict(list)
    studies = [
        (study, size, runs, fit_transfer(study.table_runs(runs), study.axis, study.hyperparameter))
        for study, size, runs in studies_with_results(results_dir)
    ]
    shared = learn_all(transfer for *_, transfer in studies)
    learnt = [{"hyperparameter": name} | each.columns() for name, each in shared.items()]
    parts["shared_shapes"].append(pd.DataFrame(learnt))
    for study, size, runs, transfer in studies:
        drawn = fit_transfer(study.figure_runs(runs), study.axis, study.hyperparameter)
        parts["transfer_table"].append(
            transfer_rows(transfer, shared, size).assign(sweep=study.name, base=study.base)
        )
        optima = drawn.optima().join(pooled_optima(drawn, shared))
        parts["optima"].append(optima.assign(sweep=study.name, size=size))
        differences = loss_differences(transfer, shared)
        if len(differences):
            which = {"sweep": study.name, "size": size}
            parts["loss_differences"].append(differences.assign(**which))
            if study.axis == AXES["width"] and len(found := embedding(differences)):
                parts["embedding"].append(found.assign(**which))
        if study.name in FACTORS:
            for name, table in _exponents(study.name, size, runs, shared[LR], results_dir).items():
                parts[name].append(table.assign(sweep=study.name, size=size))
        if study.sweep == "lr_duration":
            _, laws = duration_laws(runs)
            made = (laws.table(), laws.differences())
            for name, table in zip(DURATION_TABLES[2:], made, strict=True):
                parts[name].append(table.assign(size=size))
    of_cpu = {study.sweep: transfer for study, size, _, transfer in studies if size == "cpu"}
    if of_cpu.keys() & set(SWEEPS):
        parts["optimum_laws"].append(with_public(optimum_laws(of_cpu, shared), results_dir))
    for sweep, make in OTHERS.items():
        if (path := results_dir / f"{sweep}.parquet").exists():
            for name, table in make(load_results(path), results_dir).items():
                parts[name].append(table)
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}


def _exponents(
    name: str, size: str, runs: pd.DataFrame, shared: Shared, results_dir: Path
) -> Tables:
    """The exponents of a study along duration, and what changes them where that was trained."""
    conditions = fit_conditions(runs, shared)
    changed, factors = conditions, FACTORS[name]
    if factors != name:
        path = results_dir / f"{factors}{'' if size == 'cpu' else f'_{size}'}.parquet"
        changed = fit_conditions(load_results(path).runs, shared) if path.exists() else {}
    everything: Conditions = {**conditions, **changed}
    tables = {"duration_exponents": exponents(everything)}
    if changed:
        tables["duration_effects"] = effects(everything, changed)
    return tables


def markdown(table: pd.DataFrame, base: Base) -> str:
    """The table of transfer at a base for documents: the pooled rows, and verdicts seed by seed."""
    table = table[table["base"] == base]
    keys = ["sweep", "label", "size"]
    by_seed = table[table["method"] == "by seed"].set_index(keys)["verdict"]
    columns: Columns = {
        "sweep": "sweep",
        "arm": lambda row: row["label"],
        "the same trainings": lambda row: _text(row["also"]),
        "scales": scale_range,
        "seeds": "seeds",
        "drift (octaves per doubling)": ("drift", 2),
        "worst regret (nats)": ("regret_worst", 3),
        "at": "worst_scale",
        "floor": lambda row: f"{row['regret_floor']:.3f}",
        "P(holds)": lambda row: f"{row['p_holds']:.2f}",
        "verdict": "verdict",
        "seed by seed": lambda row: by_seed[tuple(row[keys])],
        "what would decide it": lambda row: _text(row["decides"]),
    }
    pooled = readable(table[table["method"] == "pooled"], columns)
    return markdown_table(list(columns), pooled.reset_index().to_numpy().tolist())


def _text(value: object) -> str:
    return value if isinstance(value, str) and value else "–"


def read_table(results_dir: Path, name: str) -> pd.DataFrame:
    """A table as it was written.

    Raises:
        ConfigError: if there is none.
    """
    try:
        return pd.read_csv(results_dir / f"{name}.csv", keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise ConfigError(
            f"{results_dir / name}.csv: no such table (python -m analysis.tables makes it)"
        ) from None


def read_shared(results_dir: Path) -> AllShared:
    """What the curves of the studies share, as it was written.

    Raises:
        ConfigError: if it was not.
    """
    rows = read_table(results_dir, "shared_shapes").to_dict("records")
    return {str(row["hyperparameter"]): Shared.of_columns(row) for row in rows}  # type: ignore[arg-type]


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, atomically, with six significant digits."""
    write_atomically(path, lambda file: table.to_csv(file, index=False, float_format="%.6g"))


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of all results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m analysis.tables", description=__doc__)
    parser.add_argument(
        "--results-dir", type=given_path, default=COMMITTED_RESULTS, help="default: %(default)s"
    )
    directory = parser.parse_args(arguments).results_dir
    check_writable(directory, "--results-dir")
    tables = all_tables(directory)
    for name, table in tables.items():
        write_table(table, directory / f"{name}.csv")
        print(f"wrote {directory / name}.csv")
    return 0


def studies_with_results(results_dir: Path) -> Iterator[tuple[Study, str, pd.DataFrame]]:
    """The studies and sizes with results, and their runs.

    Raises:
        ConfigError: if there are none, or a file cannot be read.
    """
    if not any(results_dir.glob("*.parquet")):
        raise ConfigError(f"{results_dir}: no results there (python -m figures makes them)")
    load = cache(load_results)  # a file may be of several studies
    for study in STUDIES.values():
        for path in sorted(results_dir.glob(f"{study.sweep}*.parquet")):
            size = size_of(path.stem, study.sweep)
            if size and len(study.own(runs := load(path).runs)):
                yield study, size, runs


def size_of(stem: str, sweep: str) -> str | None:
    """The size whose runs of a sweep are in a file (`lr_width_gpu`: gpu); None if none are."""
    if stem.endswith((CURVES, TRIALS)) or stem in {study.sweep for study in STUDIES.values()} - {
        sweep
    }:
        return None
    name, _, size = stem.partition(f"{sweep}_")
    return "cpu" if stem == sweep else size if not name and size else None


if __name__ == "__main__":
    raise SystemExit(main())
