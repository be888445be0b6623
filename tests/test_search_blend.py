"""Points between tuned hyperparameters."""

from __future__ import annotations

import math

import pytest

from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.search import blend, tuned, weights_of

START = RunConfig.model_validate(
    {"hyperparameters": {"lr": 0.01, "beta1": 0.9, "module_multipliers": {"key": {"lr": 3.0}}}}
)
END = RunConfig.model_validate(
    {
        "train": {"final_fraction": 0.4},
        "hyperparameters": {
            "lr": 0.04,
            "beta1": 0.6,
            "module_multipliers": {"query": {"eps": 16.0}},
            "depth_multipliers": {"lr": [1.0, 4.0]},
        },
    }
)


def blended(*weights: float, ends: tuple[RunConfig, ...] = (END,)) -> RunConfig:
    return RunConfig.model_validate(blend(START, ends, weights))


def test_the_ends_of_a_line_are_the_files_themselves():
    assert blended(0.0).hyperparameters.lr == START.hyperparameters.lr
    assert blended(0.0).train.final_fraction == START.train.final_fraction
    assert blend(START, [END], [1.0])["train"] == tuned(END)["train"]
    found = blended(1.0).hyperparameters
    assert (found.lr, found.beta1) == (0.04, 0.6)
    assert found.module_multipliers == {"key": {"lr": 1.0}, "query": {"eps": 16.0}}


def test_between_them_every_number_is_a_geometric_mean():
    run = blended(0.5)
    found = run.hyperparameters
    assert found.lr == pytest.approx(0.02)
    assert found.beta1 == pytest.approx(1 - math.sqrt(0.1 * 0.4))
    assert found.module_multipliers["key"]["lr"] == pytest.approx(math.sqrt(3))
    assert found.module_multipliers["query"]["eps"] == pytest.approx(4)
    assert found.depth_multipliers["lr"] == pytest.approx([1, 2])
    assert run.train.final_fraction == pytest.approx(0.2)
    assert found.eps == START.hyperparameters.eps


def test_courses_of_the_rate_are_not_blended():
    points = [{"at": 0, "factor": 1}, {"at": 1, "factor": 0}]
    course = {"schedule": "piecewise", "piecewise": {"lr": points}}
    annealed = RunConfig.model_validate({"train": course})
    with pytest.raises(ConfigError, match=r"train\.piecewise: courses cannot be blended"):
        blend(START, [annealed], [0.5])
    assert weights_of(annealed, START, [END]) is None


def test_a_line_goes_on_beyond_its_ends():
    assert blended(-0.5).hyperparameters.lr == pytest.approx(0.005)
    assert blended(1.5).hyperparameters.depth_multipliers["lr"] == pytest.approx([1, 8])


def test_a_plane_has_two_directions():
    other = RunConfig.model_validate({"hyperparameters": {"lr": 0.01, "eps": 1e-6}})
    found = blended(0.5, 1.0, ends=(END, other)).hyperparameters
    assert found.lr == pytest.approx(0.02)
    assert found.eps == pytest.approx(1e-6)
    assert found.module_multipliers["key"]["lr"] == pytest.approx(3 / math.sqrt(3) / 3)


def test_a_run_says_where_it_lies_on_a_line_or_plane():
    other = RunConfig.model_validate({"hyperparameters": {"lr": 0.01, "eps": 1e-6}})
    for weights in ((0.0,), (1.0,), (-0.5,), (0.3,)):
        assert weights_of(blended(*weights), START, [END]) == weights
    plane = blended(0.25, 1.5, ends=(END, other))
    assert weights_of(plane, START, [END, other]) == (0.25, 1.5)
    assert weights_of(plane, START, [END]) is None
    assert weights_of(other, START, [END]) is None


def test_what_has_no_logarithm_or_another_length_cannot_be_blended():
    no_decay = RunConfig.model_validate({"hyperparameters": {"weight_decay": 0.0}})
    with pytest.raises(ConfigError, match=r"hyperparameters\.weight_decay: is 0"):
        blend(START, [no_decay], [0.5])
    three = RunConfig.model_validate(
        {"hyperparameters": {"depth_multipliers": {"lr": [1.0, 1.0, 2.0]}}}
    )
    with pytest.raises(ConfigError, match=r"depth_multipliers\.lr: lists of several lengths"):
        blend(END, [three], [0.5])
