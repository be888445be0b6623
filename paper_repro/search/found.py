"""What a search found, as a file that sweeps and `python -m paper_repro.transfer` read."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean
from typing import Any

from paper_repro.config import RunConfig
from paper_repro.files import write_yaml
from paper_repro.search.state import SearchState


def write_found(state: SearchState) -> Path | None:
    """Write the incumbent of a search beside its rounds; None if no trial has a finite loss."""
    point, loss = state.incumbent
    if not math.isfinite(loss):
        return None
    config = state.search.space.config(point, seed=0)
    path = state.directory / "found.yaml"
    write_yaml(path, tuned(config), header=_header(state))
    return path


def tuned(config: RunConfig) -> dict[str, Any]:
    """What of a run is tuned, with the shape of the base at which it is stated."""
    whole = config.model_dump(mode="json")
    schedule = ["warmup_fraction", "final_fraction"]
    schedule += ["schedule", "piecewise"] if config.train.piecewise else []
    return {
        "scaling": {k: v for k, v in whole["scaling"].items() if k.startswith("base_")},
        "train": {key: whole["train"][key] for key in schedule},
        "hyperparameters": {k: v for k, v in whole["hyperparameters"].items() if v != {}},
    }


def _header(state: SearchState) -> str:
    search, ended = state.search, [trial for trial in state.trials if trial.ended]
    lines = [
        f"Found by {search.name} in {len(ended)} trials over {len(search.space.coordinates)} "
        "coordinates.",
        f"Loss at the seeds of the search: {state.incumbent[1]:.4f} nats; at the start: "
        f"{ended[0].loss(search.objective):.4f}.",
    ]
    if state.confirmations and state.confirmations[-1].ended:
        confirmed = state.confirmations[-1]
        spread = "" if confirmed.sd is None else f", standard deviation {confirmed.sd:.4f}"
        seeds = ", ".join(map(str, search.confirm_seeds))
        lines.append(
            f"At seeds {seeds}, which it did not use: {fmean(confirmed.losses):.4f}{spread}."
        )
    return "\n".join(lines)
