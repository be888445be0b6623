"""The committed results are what they say: runs, tables, figures, and the README's copies."""

import importlib
import itertools
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis.load import COMMITTED_RESULTS as RESULTS
from analysis.load import config_of, load_results
from analysis.report import format_interval
from analysis.studies import STUDIES
from analysis.tables import DURATION_TABLES, all_tables, markdown
from figures.registry import FIGURES
from paper_repro.errors import ConfigError
from sweeps.expand import read_sweep

ROOT = Path(__file__).parent.parent
START, END = "<!-- transfer: python -m analysis.tables --markdown -->\n", "<!-- /transfer -->"
INTERVAL = re.compile(r"−?\d+\.\d+ \[−?\d+\.\d+, −?\d+\.\d+\]")

figures = importlib.import_module("figures.__main__")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return all_tables(RESULTS)


def runs_of(path: Path) -> set[str]:
    """The ids of the runs of a sweep file, of three seeds where it has one."""
    try:
        sweeps = [read_sweep(path, [f"seed={seed}"]) for seed in range(3)]
    except ConfigError:  # the seed is varied by the file itself
        sweeps = [read_sweep(path)]
    return set().union(*(sweep.runs for sweep in sweeps))


@pytest.mark.parametrize("sweep", STUDIES)
def test_runs_are_those_of_the_sweep_file(sweep):
    """Every run of the file, each with its result, and no other."""
    runs = load_results(RESULTS / f"{sweep}.parquet")
    assert set(runs["run_id"]) == runs_of(Path("sweeps", f"{sweep}.yaml"))
    assert runs["status"].isin(["done", "diverged"]).all()
    assert runs["git_revision"].notna().all()
    assert [config_of(row).run_id for row in runs.to_dict("records")] == list(runs["run_id"])


@pytest.mark.parametrize("name", ["transfer_table", "optima", *DURATION_TABLES])
def test_tables_are_those_of_the_runs(name, tables):
    written = pd.read_csv(RESULTS / f"{name}.csv")
    pd.testing.assert_frame_equal(
        written, tables[name], check_dtype=False, rtol=0, atol=2e-5, obj="python -m analysis.tables"
    )


def test_the_readme_has_the_table_of_transfer(tables):
    readme = Path("README.md").read_text(encoding="utf-8")
    block = readme.partition(START)[2].partition(END)[0]
    assert block == markdown(tables["transfer_table"]), "renew: the command beside the block"


def test_nothing_in_the_table_is_without_seeds_or_interval(tables):
    """What has no interval is not bracketed, and decides nothing."""
    table = tables["transfer_table"]
    unknown = table["drift_low"].isna()
    assert (table.loc[unknown, "verdict"] == "not decided").all()
    assert not table.loc[unknown, "bracketed"].any()
    assert (table.loc[~unknown, "seeds"] >= 2).all()


@pytest.mark.parametrize("name", FIGURES)
def test_figures_come_again_from_the_committed_runs(name, tmp_path):
    """Byte by byte, as SVG."""
    assert figures.main([name, "--output-dir", str(tmp_path)]) == 0
    drawn = (tmp_path / f"{name}.svg").read_bytes()
    assert drawn == Path("figures", f"{name}.svg").read_bytes()
    assert Path("figures", f"{name}.png").stat().st_size > 10_000


def test_figures_of_the_documents_can_be_made():
    for path in (Path("README.md"), *Path("analysis").glob("*.md")):
        shown = re.findall(r"figures/(\w+)\.(?:png|svg)", path.read_text(encoding="utf-8"))
        assert set(shown) <= set(FIGURES), path


def test_intervals_in_the_claims_are_those_of_the_tables(tables):
    """Every `value [low, high]` is a number of a table, as it is rounded there."""
    known = set()
    for table in tables.values():
        names = [name for name in table if f"{name}_low" in table]
        for (_, row), name, digits in itertools.product(table.iterrows(), names, (2, 3)):
            known.add(format_interval(row, name, digits))
    claims = Path("analysis/CLAIMS.md").read_text(encoding="utf-8")
    quoted = INTERVAL.findall(claims)
    assert len(quoted) > 10
    assert [interval for interval in quoted if interval not in known] == []
