"""The studies at the tuned base: what is read of their sweep files, before these have results."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.arms import STUDIES, arms_of, select
from figures.check import planned
from figures.registry import FIGURES
from paper_repro.errors import ConfigError
from sweeps.expand import read_sweep

SWEEPS = Path(__file__).parent.parent / "sweeps"
DESIGNS = [name for name in STUDIES if name.startswith("transfer_")]


def runs_of(sweep: str, size: str = "cpu") -> pd.DataFrame:
    return planned(list(read_sweep(SWEEPS / f"{sweep}.yaml", size=size).runs.values()))


@pytest.mark.parametrize("name", DESIGNS)
def test_every_arm_of_a_study_is_there_at_every_scale(name):
    """What is trained once, the base and restated arms, is read under each of its names."""
    study = STUDIES[name]
    known = study.figure_runs(runs := runs_of(study.sweep))
    assert set(arms_of(known)) == set(study.panels)
    scales = set(study.own(runs)[study.axis.column])
    for arm in study.panels:
        assert set(select(known, arm)[study.axis.column]) == scales, arm.label


@pytest.mark.parametrize("size", ["cpu", "gpu", "paper"])
@pytest.mark.parametrize("sweep", {STUDIES[name].sweep: None for name in DESIGNS})
def test_a_launch_draws_the_figure_of_its_study(sweep, size):
    file = read_sweep(SWEEPS / f"{sweep}.yaml", size=size)
    assert file.figure == sweep
    check = FIGURES[sweep].check
    assert check is not None
    check(planned(list(file.runs.values())))


def test_the_regimes_of_duration_are_three_studies_without_a_run_in_common():
    runs = runs_of("transfer_duration")
    parts = [study for study in STUDIES.values() if study.sweep == "transfer_duration"]
    own = [study.own(runs) for study in parts]
    assert [len(study.own(runs)) for study in parts] == [162, 90, 90]
    assert sorted(pd.concat(own)["run_id"]) == sorted(runs["run_id"])
    names = ["transfer_duration", "transfer_duration_batch_1", "transfer_duration_batch_32"]
    assert [study.name for study in parts] == names


def test_a_part_that_a_size_lacks_is_told():
    runs = runs_of("transfer_duration", size="gpu")
    with pytest.raises(ConfigError, match=r"batch_32: no run with .*base_batch_size of 32"):
        STUDIES["transfer_duration_batch_32"].figure_runs(runs)
