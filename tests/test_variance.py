"""The parts of the spread over seeds that were put in are found again."""

import numpy as np
import pandas as pd
import pytest

from analysis.variance import components
from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.training import trainer


def crossed(count: int, sd: tuple[float, float, float]) -> pd.DataFrame:
    """Losses with normal effects of initial weights, of the data, and of both together."""
    random = np.random.default_rng(0)
    init, data = sd[0] * random.standard_normal(count), sd[1] * random.standard_normal(count)
    losses = 2 + init[:, None] + data + sd[2] * random.standard_normal((count, count))
    cells = [(i, j, losses[i, j]) for i in range(count) for j in range(count)]
    return pd.DataFrame(cells, columns=["init_seed", "seed", "val_loss"])


def test_the_parts_are_found():
    table = components(crossed(60, (0.02, 0.01, 0.005))).set_index("source")
    assert table["sd"].to_dict() == pytest.approx(
        {
            "initial weights": 0.02,
            "order of the data": 0.01,
            "both together": 0.005,
            "a run": np.hypot(np.hypot(0.02, 0.01), 0.005),
        },
        rel=0.25,
    )
    assert table["share"].drop("a run").sum() == pytest.approx(1)


@pytest.mark.parametrize("wrong", ["missing", "diverged"])
def test_seeds_that_are_not_crossed_are_refused(wrong):
    runs = crossed(3, (1, 1, 1))
    runs = runs[1:] if wrong == "missing" else runs.assign(val_loss=np.inf)
    with pytest.raises(ConfigError, match="one finite run for every pair"):
        components(runs)


def test_an_own_seed_changes_the_initial_weights_alone():
    """The loss of the first step is that of the weights; batches are those of `seed`."""
    tiny = {
        "model": {"width": 8, "depth": 1, "head_dim": 8},
        "data": {"corpus": "synthetic", "context": 16},
        "train": {"batch_size": 2, "tokens": 64, "evaluations": 1, "eval_sequences": 8},
        "scaling": {"base_batch_size": 2, "base_tokens": 64},
    }

    def loss(**seeds: int) -> float:
        outcome = trainer.train(RunConfig.model_validate(tiny | seeds))
        assert outcome.val_loss is not None
        return outcome.val_loss

    assert loss(seed=3, init_seed=3) == loss(seed=3)
    assert len({loss(seed=3), loss(seed=3, init_seed=4), loss(seed=4, init_seed=4)}) == 3
