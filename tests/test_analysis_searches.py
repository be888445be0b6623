"""Trials as tables, and the race of proposers, on losses that are known."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from analysis.searches import (
    TRIAL_COLUMNS,
    _unpaired,
    race,
    race_differences,
    read_trials,
    with_losses,
    write_rounds,
)
from paper_repro.config import RunConfig
from paper_repro.records import Status
from paper_repro.search import Trial, parse_space
from paper_repro.search.proposers import Proposal


def trials(rows: list[dict]) -> pd.DataFrame:
    whole = [
        {"kind": "trial", "round": 0, "repeat": 0, "octaves": "{}", "definition": ""} | row
        for row in rows
    ]
    for row in whole:
        row["proposer"], _, row["search_seed"] = row["search"].rpartition("-")
        row["runs"] = json.dumps(row["runs"])
    return pd.DataFrame(whole, columns=list(TRIAL_COLUMNS))


def runs(losses: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame({"run_id": list(losses), "val_loss": list(losses.values())})


def test_the_loss_of_a_trial_is_the_mean_of_its_runs():
    found = with_losses(
        trials(
            [
                {"search": "gp-0", "trial": 0, "runs": ["a", "b"]},
                {"search": "gp-0", "trial": 1, "runs": ["a", "diverged"]},
                {"search": "gp-0", "trial": 2, "runs": ["a", "failed"]},
                {"search": "gp-0", "trial": 3, "runs": []},
                {"search": "gp-0", "trial": 4, "runs": ["a", "absent"]},
            ]
        ),
        runs({"a": 2.0, "b": 1.0, "diverged": math.inf, "failed": math.nan}),
    )
    assert found["loss"].tolist() == [1.5, *[math.inf] * 3, 2.0]
    assert found["sd"].iloc[0] == pytest.approx(math.sqrt(0.5))


def test_the_objective_is_the_mean_or_the_worst_of_the_runs():
    outcomes = {"a": Status(status="done", val_loss=2.0), "b": Status(status="done", val_loss=1.0)}
    space = parse_space({"hyperparameters.lr": 1}, RunConfig())
    found = Trial(0, Proposal(space.start), dict.fromkeys(outcomes, RunConfig()), None, outcomes)
    assert (found.loss("mean"), found.loss("worst")) == (1.5, 2.0)
    assert found.sd == pytest.approx(math.sqrt(0.5))
    outcomes["b"] = Status(status="diverged")
    assert found.sd is None
    assert (found.loss("mean"), found.loss("worst")) == (math.inf, math.inf)


def test_proposers_are_compared_by_their_incumbents_at_fresh_seeds():
    rows, losses = [], {}
    for proposer, seen, fresh in (("gp", 1.5, [1.8, 1.9, 2.0]), ("tpe", 1.6, [1.7, 1.8, 1.9])):
        for seed, loss in enumerate(fresh):
            name = f"{proposer}-{seed}"
            losses |= {f"{name}-start": 2.5, f"{name}-best": seen, f"{name}-fresh": loss}
            losses[f"{name}-again"] = 1.0  # at other seeds: not the loss that the search saw
            rows += [
                {"search": name, "trial": 0, "runs": [f"{name}-start"]},
                {"search": name, "trial": 1, "runs": [f"{name}-best"]},
                {"search": name, "trial": 2, "runs": [f"{name}-again"], "repeat": 1},
                {"search": name, "trial": 3, "runs": []},
                {"search": name, "kind": "confirmation", "trial": 4, "runs": [f"{name}-fresh"]},
            ]
    table = race(with_losses(trials(rows), runs(losses))).set_index("proposer")
    assert list(table.index) == ["tpe", "gp"]  # in the order of print
    assert table.loc["gp", "loss"] == pytest.approx(1.9)
    assert table.loc["gp", "loss_high"] == pytest.approx(1.9 + 0.1 * 4.302653 / math.sqrt(3))
    assert table["seen"].to_dict() == pytest.approx({"tpe": 1.6, "gp": 1.5})
    assert (table["searches"] == 3).all()
    assert (table["infinite"] == 1).all()
    assert (table["trials"] == 4).all()


def test_two_proposers_differ_by_the_unpaired_interval():
    """Means 1 and 4, variances 1: an error of √(2/3), of 4 degrees of freedom."""
    rows, losses = [], {}
    for proposer, values in {"gp": (0.0, 1.0, 2.0), "tpe": (3.0, 4.0, 5.0)}.items():
        for search, loss in enumerate(values):
            runs_of = [f"{proposer}{search}"]
            losses[runs_of[0]] = loss
            place = {"search": f"{proposer}-{search}", "kind": "confirmation", "trial": 4}
            rows.append(place | {"proposer": proposer, "runs": runs_of})
    (row,) = race_differences(with_losses(trials(rows), runs(losses))).to_dict("records")
    assert (row["first"], row["second"], row["trials"]) == ("tpe", "gp", 4)
    half = 2.776445 * math.sqrt(2 / 3)
    found = [row[f"difference{end}"] for end in ("", "_low", "_high")]
    assert found == pytest.approx([3, 3 - half, 3 + half])


def test_searches_that_are_not_at_their_end_have_no_row_yet():
    found = trials([{"search": "gp-0", "trial": 0, "runs": ["a"]}])
    assert race(with_losses(found, runs({"a": 2.0}))).empty
    assert race_differences(with_losses(found, runs({"a": 2.0}))).empty


def test_files_of_others_among_the_rounds_are_none(tmp_path):
    """Of sync tools and editors."""
    rows = [{"search": "gp-0", "trial": trial, "round": trial, "runs": ["a"]} for trial in (0, 1)]
    rows[0]["definition"] = "{}"
    write_rounds(trials(rows), tmp_path)
    (tmp_path / "search" / ".stfolder-x").mkdir()
    (tmp_path / "search" / "gp-0" / "0001 (conflicted copy).json").write_text("{}")
    assert read_trials(tmp_path)["trial"].tolist() == [0, 1]


@pytest.mark.filterwarnings("error")
def test_searches_that_all_end_alike_are_apart_without_a_warning():
    """Of proposers that never leave the start; scipy warns of data that are nearly identical."""
    found = _unpaired(pd.Series([1.1, 1.1, 1.1]), pd.Series([1.3, 1.3, 1.3]))
    assert found.value == pytest.approx(-0.2)
    assert found.low == pytest.approx(found.high)
