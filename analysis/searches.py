"""What searches tried and found, as tables; the race of their proposers."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from paper_repro.errors import ConfigError
from paper_repro.files import create_exclusively, numbered, read_json, write_json
from paper_repro.search import CONFIRM, FOLDER
from paper_repro.statistics import CONFIDENCE, UNKNOWN, Interval, over_seeds

#: Of a frame of trials. `octaves` are the coordinates that are moved, and `runs` run ids, as JSON;
#: `definition` says what the search is, with its first trial only.
TRIAL_COLUMNS = (
    *("search", "proposer", "search_seed", "kind", "trial", "round", "repeat"),
    *("octaves", "runs", "definition"),
)

#: Of the table that `race` makes.
RACE_COLUMNS = (
    *("proposer", "trials", "searches", "loss", "loss_low", "loss_high", "seen", "infinite"),
)

#: Names in print, in the order of print.
PROPOSER_NAMES = {
    "trust_region": "trust region",
    "random": "random",
    "tpe": "TPE",
    "cma_es": "CMA-ES",
    "gp": "Gaussian process",
}


def read_trials(sweep_dir: Path) -> pd.DataFrame:
    """The trials of all searches of a sweep, one row each, from their rounds on disk.

    Columns: `search`, its name; `kind`, `trial` or `confirmation`; `trial`, its place in the search
    from 0, or for a confirmation the number of trials before it; and `TRIAL_COLUMNS`.

    Raises:
        ConfigError: a round is damaged.
    """
    rows: list[dict[str, Any]] = []
    for directory in sorted((sweep_dir / FOLDER).glob("*-*/")):
        proposer, _, seed = directory.name.rpartition("-")
        if proposer not in PROPOSER_NAMES or not seed.isdecimal():
            continue  # of a sync tool
        known = {"search": directory.name, "proposer": proposer, "search_seed": int(seed)}
        number = 0
        for index, path in enumerate(numbered(directory)):
            content = read_json(path) or {}
            if "trials" not in content:
                raise ConfigError(f"{path}: is damaged; delete it, and launch again")
            for trial in content["trials"]:
                place = {"kind": "trial", "trial": number, "round": index}
                definition = "" if number else json.dumps(content["search"])
                rows.append(known | place | _trial(trial) | {"definition": definition})
                number += 1
        for trial in (read_json(directory / CONFIRM) or {"trials": []})["trials"]:
            place = {"kind": "confirmation", "trial": trial["after"], "round": -1}
            rows.append(known | place | _trial(trial) | {"definition": ""})
    return pd.DataFrame(rows, columns=list(TRIAL_COLUMNS))


def _trial(content: dict[str, Any]) -> dict[str, Any]:
    texts = {key: json.dumps(content[key], sort_keys=True) for key in ("octaves", "runs")}
    return {"repeat": content["repeat"], **texts}


def write_rounds(trials: pd.DataFrame, sweep_dir: Path) -> None:
    """The reverse of `read_trials`, for a launch to go on from."""
    for _, some in trials.groupby(["search", "round"]):
        number = int(some["round"].iloc[0])
        directory = sweep_dir / FOLDER / some["search"].iloc[0]
        directory.mkdir(parents=True, exist_ok=True)
        ordered = [row for _, row in some.sort_values("trial").iterrows()]
        if number < 0:
            after = [{"after": int(row["trial"]), **_described(row)} for row in ordered]
            write_json(directory / CONFIRM, {"trials": after})
            continue
        content: dict[str, Any] = {"trials": [_described(row) for row in ordered]}
        if number == 0:
            content = {"search": json.loads(ordered[0]["definition"]), **content}
        create_exclusively(directory / f"{number + 1:04d}.json", content)


def _described(row: pd.Series) -> dict[str, Any]:
    texts = {key: json.loads(row[key]) for key in ("octaves", "runs")}
    return {"repeat": int(row["repeat"]), **texts}


def with_losses(trials: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Trials with their `loss` and its standard deviation over seeds, `sd` (nats).

    The loss is the mean of the final validation losses of the runs: infinite where one diverged or
    failed, or where there are none.
    """
    final = runs.set_index("run_id")["val_loss"].fillna(np.inf)
    losses = [final.reindex(json.loads(ids)) for ids in trials["runs"]]
    return trials.assign(
        loss=[each.mean() if len(each) else np.inf for each in losses],
        sd=[each.std() if np.isfinite(each).all() else np.nan for each in losses],
    )


def race(trials: pd.DataFrame) -> pd.DataFrame:
    """Proposers at equal trials: the mean loss of their incumbents at seeds that no search used.

    One row a proposer and number of trials: `searches`; `loss` with its interval over searches;
    `seen`, the mean of what the searches themselves took their incumbents' loss to be; `infinite`,
    the mean number of trials with an infinite loss. No row before the searches are at their end.
    `trials` is of `with_losses`.
    """
    rows = []
    tried = trials[trials["kind"] == "trial"]
    confirmed = trials[trials["kind"] == "confirmation"]
    for (proposer, after), found in confirmed.groupby(["proposer", "trial"]):
        before = tried[(tried["proposer"] == proposer) & (tried["trial"] < after)]
        first = before[before["repeat"] == 0]
        rows.append(
            {
                "proposer": proposer,
                "trials": after,
                "searches": len(found),
                **over_seeds(found["loss"].to_list()).columns("loss"),
                "seen": first.groupby("search")["loss"].min().mean(),
                "infinite": np.isinf(before["loss"]).sum() / len(found),
            }
        )
    order = {name: place for place, name in enumerate(PROPOSER_NAMES)}
    table = pd.DataFrame(rows, columns=list(RACE_COLUMNS))
    return table.sort_values(
        ["trials", "proposer"], key=lambda column: column.replace(order), ignore_index=True
    )


def race_differences(trials: pd.DataFrame) -> pd.DataFrame:
    """How far two proposers are apart at the end of their searches, at seeds that none used.

    One row a pair: `trials`, as many for both; `difference`, the loss of the first less that of the
    second (nats), with Student's t-interval over searches, unpaired. `trials` is of `with_losses`.
    """
    confirmed = trials[trials["kind"] == "confirmation"]
    last = confirmed[confirmed["trial"] == confirmed["trial"].max()]
    losses = {name: last.loc[last["proposer"] == name, "loss"] for name in PROPOSER_NAMES}
    found = {name: values for name, values in losses.items() if len(values)}
    return pd.DataFrame(
        {
            "first": first,
            "second": second,
            "trials": last["trial"].iloc[0],
            **_unpaired(found[first], found[second]).columns("difference"),
        }
        for first, second in itertools.combinations(found, 2)
    )


def _unpaired(first: pd.Series, second: pd.Series) -> Interval:
    """The difference of two means, with the interval of the two-sample t-test."""
    if min(len(first), len(second)) < 2 or not np.isfinite([*first, *second]).all():
        return UNKNOWN
    with warnings.catch_warnings():
        # Of searches that all end where they began, there is no precision to lose.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        low, high = stats.ttest_ind(first, second).confidence_interval(CONFIDENCE)
    return Interval(float(first.mean() - second.mean()), float(low), float(high))
