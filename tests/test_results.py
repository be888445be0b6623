"""The committed results are what they say: runs, tables, figures, and the README's copies."""

import functools
import itertools
import re
import runpy
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from support.numbers import ABSOLUTE, assert_same_numbers

from analysis.load import COMMITTED_RESULTS as RESULTS
from analysis.load import Results, config_columns, load_results
from analysis.multiverse import REPORTED
from analysis.pooled_transfer import HELD_OUT
from analysis.power import PLANNED, WANTED
from analysis.report import format_interval
from analysis.schedule_laws.tables import our_tables
from analysis.studies import STUDIES
from analysis.tables import DURATION_TABLES, all_tables, read_table, size_of
from analysis.transfer import DRIFT_TOLERANCE, REGRET_TOLERANCE
from figures.made import COMMITTED_FIGURES, Made
from figures.registry import FIGURES
from figures.transfer import make_study
from paper_repro.config import RunConfig
from paper_repro.parameterization.page import with_block
from sweeps.expand import read_sweep

ROOT = Path(__file__).parent.parent
TABLES = (
    *("transfer_table", "optima", "proposers", "proposer_differences", "tuned_global"),
    *DURATION_TABLES,
    *("attribution", "speedup", "speedup_shuffled", "speedup_slopes", "optimum_laws"),
    "annealings",
)
#: The studies and figures that have committed results; those at the tuned base come one by one.
STUDIED = [name for name, study in STUDIES.items() if (RESULTS / f"{study.sweep}.parquet").exists()]
DRAWN = [
    name
    for name, entry in FIGURES.items()
    if all((RESULTS / f"{sweep}.parquet").exists() for sweep in entry.sweeps)
]
#: Blocks of pages; that of `llama` is computed, and held by tests/test_transfer_check.py.
FROM_TABLES = [
    block
    for block in runpy.run_path(str(ROOT / "docs/results.py"))["BLOCKS"]
    if block[1] != "llama"
]
#: One study of each kind: these are read in ways of their own.
KINDS = {
    (STUDIES[name].axis, STUDIES[name].hyperparameter, STUDIES[name].where is None): name
    for name in STUDIED
}
INTERVAL = re.compile(r"−?\d+\.\d+ \[−?\d+\.\d+, −?\d+\.\d+\]")


@functools.cache
def results_of(sweep: str) -> Results:
    """The committed results, which tests only read."""
    return load_results(RESULTS / f"{sweep}.parquet")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    """The tables as they are committed."""
    return {name: read_table(RESULTS, name) for name in TABLES}


@pytest.fixture(scope="module")
def made_again(tmp_path_factory) -> dict[str, pd.DataFrame]:
    """The tables of all results but those of schedules, whose laws take a minute to fit."""
    some = tmp_path_factory.mktemp("results")
    for path in RESULTS.iterdir():
        if not path.name.startswith("schedules"):
            (some / path.name).symlink_to(path.resolve())
    return all_tables(some)


@pytest.mark.slow
def test_tables_of_schedules_are_those_of_the_runs():
    """Renew: `python -m analysis.tables`."""
    for name, table in our_tables(load_results(RESULTS / "schedules.parquet")).items():
        assert_same_numbers(read_table(RESULTS, name), table)


def runs_of(path: Path) -> set[str]:
    """The ids of the runs of a sweep file, of three seeds from its own where it has one."""
    sweep = read_sweep(path)
    first, *others = {config.seed for config in sweep.runs.values()}
    if others:  # the seed is varied by the file itself
        return set(sweep.runs)
    sweeps = [read_sweep(path, [f"seed={first + further}"]) for further in range(3)]
    return set().union(*(sweep.runs for sweep in sweeps))


def test_every_figure_that_is_committed_has_results():
    kept = {path.stem for path in COMMITTED_FIGURES.glob("*.png")}
    assert kept == set(DRAWN)
    assert {f"lr_{axis}" for axis in ("width", "depth", "batch", "duration")} < set(STUDIED)


@pytest.mark.parametrize("sweep", {STUDIES[name].sweep: None for name in STUDIED})
def test_runs_are_those_of_the_sweep_file(sweep):
    """Every run of the file, each with its result, and no other but those of held-out seeds."""
    runs = results_of(sweep).runs
    path = Path("sweeps", f"{sweep}.yaml")
    shown = runs["seed"] < HELD_OUT
    assert set(runs[shown]["run_id"]) == runs_of(path)
    held_out = sorted(set(runs[~shown]["seed"]))
    assert set(runs[~shown]["run_id"]) == (
        set(read_sweep(path, seeds=held_out).runs) if held_out else set()
    )
    assert runs["status"].isin(["done", "diverged"]).all()
    assert runs["git_revision"].notna().all()
    configs = [RunConfig.model_validate_json(text) for text in runs["config"]]
    assert [config.run_id for config in configs] == list(runs["run_id"])


@pytest.mark.parametrize("sweep", {STUDIES[name].sweep: None for name in STUDIED})
def test_columns_of_the_files_are_those_of_their_configs(sweep):
    """For readers of the Parquet files themselves."""
    stored = pd.read_parquet(RESULTS / f"{sweep}.parquet")
    configs = map(RunConfig.model_validate_json, stored["config"])
    expected = pd.DataFrame(config_columns(config) for config in configs)
    there = [name for name in expected if name in stored]
    pd.testing.assert_frame_equal(
        stored[there].fillna(0.0), expected[there].fillna(0.0), check_dtype=False, check_exact=True
    )


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_those_of_the_runs(name, tables, made_again):
    """Renew: `python -m analysis.tables`."""
    assert_same_numbers(tables[name], made_again[name])


@pytest.mark.parametrize(("page", "name", "content"), FROM_TABLES)
def test_a_page_has_the_committed_table(page, name, content):
    """Renew: `python docs/results.py`."""
    text = Path(page).read_text(encoding="utf-8")
    assert with_block(text, name, content()) == text


def test_simulated_coverage_is_as_promised():
    table = read_table(RESULTS, "simulation")
    pooled = table[table["method"] == "pooled"]
    assert pooled["coverage"].between(0.93, 0.99).all()


def test_a_design_that_goes_ahead_has_power():
    table = read_table(RESULTS, "power")
    assert table["sweep"].tolist() == [design.sweep for design in PLANNED]
    assert (table[["holds_at_0", "fails_at_0.5"]] > WANTED - 0.1).all(axis=None)  # of 80 studies


def test_choices_are_tried_on_what_is_reported():
    table = read_table(RESULTS, "multiverse")
    keys = ["sweep", "label"]
    reported = table[table["choice"] == REPORTED].set_index(keys)["verdict"]
    rows = read_table(RESULTS, "transfer_table").query("method == 'pooled'")
    assert reported.to_dict() == rows.set_index(keys)["verdict"].to_dict()


def test_more_seeds_are_tried_on_what_is_open():
    keys = ["sweep", "label", "size"]
    rows = read_table(RESULTS, "transfer_table").query("method == 'pooled'")
    still_open = rows[rows["verdict"] == "not decided"]
    tried = read_table(RESULTS, "assurance")[keys].drop_duplicates()
    assert tried.to_numpy().tolist() == still_open[keys].to_numpy().tolist()


def test_sizes_are_read_from_the_names_of_files():
    assert size_of("lr_width", "lr_width") == "cpu"
    assert size_of("lr_width_gpu", "lr_width") == "gpu"
    for other in ("lr_width_curves", "lr_width_gpu_curves", "lr_width2", "my_lr_width_gpu"):
        assert size_of(other, "lr_width") is None


def test_nothing_in_the_table_is_without_seeds_or_interval(tables):
    """What has no interval is not bracketed, and decides nothing."""
    table = tables["transfer_table"]
    unknown = table["drift_low"].isna()
    assert (table.loc[unknown, "verdict"] == "not decided").all()
    assert not table.loc[unknown, "bracketed"].any()
    assert (table.loc[~unknown, "seeds"] >= 2).all()


@pytest.mark.parametrize("name", DRAWN)
def test_figures_come_again_from_the_committed_runs(name):
    """Their numbers; renew: `python -m figures NAME`."""
    made = make(name)
    longer = tuple(f"{other}_" for other in DRAWN if other.startswith(f"{name}_"))
    kept = COMMITTED_FIGURES.glob(f"data/{name}_*.csv")
    files = {path.name for path in kept if not path.name.startswith(longer)}
    assert files == {f"{name}_{frame}.csv" for frame in made.frames}
    for frame, numbers in made.frames.items():
        assert_same_numbers(read_table(COMMITTED_FIGURES / "data", f"{name}_{frame}"), numbers)
    for suffix in ("png", "svg"):
        assert (COMMITTED_FIGURES / f"{name}.{suffix}").stat().st_size > 10_000


def make(name: str) -> Made:
    entry = FIGURES[name]
    results = (results_of(sweep) for sweep in entry.sweeps)
    return entry.make(*results, *(read_table(RESULTS, table) for table in entry.tables))


def test_a_base_on_the_bigram_plateau_is_named_as_both():
    (legend,) = make("transfer_duration_batch_32").figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named[0] == "197k (base, on the bigram plateau)"


@pytest.mark.parametrize("name", KINDS.values())
def test_a_change_of_any_run_is_seen_in_the_numbers(name):
    """The loss of one run moves by 0.01 nats, or a run is missing."""
    study = STUDIES[name]
    results = results_of(study.sweep)
    before = make_study(study, results).frames
    shown = study.figure_runs(results.runs)
    best = results.runs["run_id"] == shown.loc[shown["val_loss"].idxmin(), "run_id"]
    moved = results.runs.assign(val_loss=results.runs["val_loss"] + 0.01 * best)
    for runs in (moved, results.runs[~best]):
        after = make_study(study, replace(results, runs=runs)).frames
        for frame in before:
            with pytest.raises(AssertionError):
                assert_same_numbers(before[frame], after[frame])


def test_no_verdict_hangs_on_rounding(tables):
    """Verdicts are compared exactly, so no number may be on a bound of theirs."""
    table = tables["transfer_table"]
    bounds = {
        "drift": DRIFT_TOLERANCE,
        "regret": REGRET_TOLERANCE,
        "regret_worst": REGRET_TOLERANCE,
    }
    for name, bound in bounds.items():
        for end in ("_low", "_high"):
            distances = (table[name + end].abs() - bound).abs()
            assert distances.min() > ABSOLUTE, table.loc[distances.idxmin()]


def test_figures_of_the_documents_can_be_made():
    for path in (Path("README.md"), *Path("analysis").glob("*.md")):
        shown = re.findall(r"figures/(\w+)\.(?:png|svg)", path.read_text(encoding="utf-8"))
        assert set(shown) <= set(FIGURES), path


def test_intervals_in_the_claims_are_those_of_the_tables():
    """Every `value [low, high]` is a number of a table, as it is rounded from the CSV file."""
    known = set()
    for table in map(pd.read_csv, RESULTS.glob("*.csv")):
        names = [name for name in table if f"{name}_low" in table]
        for (_, row), name, digits in itertools.product(table.iterrows(), names, (2, 3, 4)):
            known.add(format_interval(row, name, digits))
    claims = Path("analysis/CLAIMS.md").read_text(encoding="utf-8")
    quoted = INTERVAL.findall(claims)
    assert len(quoted) > 10
    assert [interval for interval in quoted if interval not in known] == []
