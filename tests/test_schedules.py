"""Schedules as data: their values, what is refused, and bundles of runs with different ones."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError
from support.runs import small_config

from paper_repro import ConfigError, Execution, RunConfig, Trainer, train
from paper_repro.config import TrainConfig
from paper_repro.hyperparameters import check
from paper_repro.schedules import Factors, factor_at, factors, lr_scale

CONSTANT = [{"at": 0.0, "factor": 1.0}]


@pytest.mark.parametrize(
    ("schedule", "scales"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]),
        ("wsd", [0.5, 1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4]),
        ("cosine", [0.5, 1, 1, None, None, None, 0.6, None, None, None]),
    ],
)
def test_schedules(schedule, scales):
    train_config = TrainConfig(
        schedule=schedule, warmup_fraction=0.2, final_fraction=0.2, decay_fraction=0.4
    )
    computed = [lr_scale(train_config, step, 10) for step in range(10)]
    for got, wanted in zip(computed, scales, strict=True):
        if wanted is not None:
            assert got == pytest.approx(wanted)
    assert all(0 < scale <= 1 for scale in computed)


@pytest.mark.parametrize(
    ("shape", "factor"),
    [
        ("linear", 0.55),
        ("cosine", 0.55),
        ("sqrt", 1 - 0.9 * math.sqrt(0.5)),
        ("exponential", math.sqrt(0.1)),
    ],
)
def test_shapes_halfway_through_a_decay(shape, factor):
    """Of `wsd`, and of a segment of a piecewise schedule with the same ends."""
    wsd = TrainConfig(schedule="wsd", decay_fraction=0.4, decay_shape=shape, warmup_fraction=0.0)
    points = [{"at": 0.6, "factor": 1}, {"at": 1, "factor": 0.1, "shape": shape}]
    piecewise = {"schedule": "piecewise", "piecewise": {"lr": points}, "warmup_fraction": 0.0}
    for schedule in (wsd, TrainConfig.model_validate(piecewise)):
        assert lr_scale(schedule, 8, 10) == pytest.approx(factor)
        assert [lr_scale(schedule, step, 10) for step in (0, 5, 6)] == [1, 1, 1]
        assert lr_scale(schedule, 10, 10) == pytest.approx(0.1)


def test_schedules_that_fall_from_the_end_of_the_warm_up():
    exponential = TrainConfig(schedule="exponential", warmup_fraction=0.2, final_fraction=0.01)
    assert lr_scale(exponential, 1, 10) == lr_scale(exponential, 2, 10) == 1
    assert lr_scale(exponential, 6, 10) == pytest.approx(0.1)
    root = TrainConfig(schedule="inverse_sqrt", warmup_fraction=0.2)
    assert lr_scale(root, 0, 10) == 0.5
    assert lr_scale(root, 7, 10) == pytest.approx(0.5)


def test_a_piecewise_schedule_is_read_at_the_share_of_the_steps():
    """A step at its point, ends that go on, and a warm-up that rises to it."""
    points = [
        {"at": 0.1, "factor": 0.5},
        {"at": 0.5, "factor": 1, "shape": "step"},
        {"at": 0.9, "factor": 0},
    ]
    content = {"schedule": "piecewise", "warmup_fraction": 0.2, "piecewise": {"lr": points}}
    train_config = TrainConfig.model_validate(content)
    scales = [lr_scale(train_config, step, 10) for step in range(10)]
    assert scales == pytest.approx([0.25, 0.5, 0.5, 0.5, 0.5, 1, 0.75, 0.5, 0.25, 0])
    assert [factor_at(train_config.piecewise["lr"], share) for share in (0, 1)] == [0.5, 0]


def test_decay_and_betas_have_courses_of_their_own():
    content = {
        "schedule": "constant",
        "warmup_fraction": 0.0,
        "piecewise": {
            "weight_decay": [{"at": 0, "factor": 2}, {"at": 1, "factor": 0}],
            "one_minus_beta2": [{"at": 0.5, "factor": 0.25}],
        },
    }
    assert factors(TrainConfig.model_validate(content), 5, 10) == Factors(1, 1, 1, 0.25)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"schedule": "piecewise"}, "piecewise.lr: expected just where schedule is piecewise"),
        ({"piecewise": {"lr": CONSTANT}}, "piecewise.lr: expected just where"),
        ({"piecewise": {"weight_decay": []}}, "piecewise.weight_decay: expected points"),
        ({"piecewise": {"weight_decay": CONSTANT * 2}}, "each at a larger share"),
        ({"piecewise": {"eps": CONSTANT}}, "one_minus_beta1"),
        ({"piecewise": {"one_minus_beta1": [{"at": 0, "factor": 0}]}}, "greater than 0"),
        (
            {"schedule": "piecewise", "piecewise": {"lr": [{"at": 0, "factor": 0}]}},
            "a factor above 0",
        ),
        (
            {
                "piecewise": {
                    "weight_decay": [*CONSTANT, {"at": 1, "factor": 0, "shape": "exponential"}]
                }
            },
            "exponential goes between",
        ),
        ({"schedule": "exponential", "final_fraction": 0.0}, "final_fraction: must be greater"),
        (
            {"schedule": "wsd", "decay_shape": "exponential", "final_fraction": 0.0},
            "final_fraction: must be greater",
        ),
    ],
)
def test_what_is_no_schedule_is_refused(section, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig.model_validate(section)


@pytest.mark.parametrize(("factor", "fine"), [(4.9, True), (5.1, False)])
def test_a_beta_that_would_not_be_positive_is_refused(factor, fine):
    """1 - β1 is 0.1 at the base, and 0.2 at half its tokens."""
    points = {"one_minus_beta1": [*CONSTANT, {"at": 1.0, "factor": factor}]}
    config = small_config(train={"piecewise": points}, scaling={"base_tokens": 24 * 64})
    if fine:
        check(config)
    else:
        with pytest.raises(ConfigError, match=r"train.piecewise.one_minus_beta1: .* below 5,"):
            check(config)


def _mixed() -> list[RunConfig]:
    """Schedules of every kind, of one bundle."""
    annealing = [{"at": 0.5, "factor": 1}, {"at": 1, "factor": 0, "shape": "sqrt"}]
    others = {
        "weight_decay": [{"at": 0, "factor": 30}, {"at": 1, "factor": 0}],
        "one_minus_beta1": [{"at": 0, "factor": 4}, {"at": 1, "factor": 0.5}],
        "one_minus_beta2": [*CONSTANT, {"at": 0.5, "factor": 5, "shape": "step"}],
    }
    return [
        small_config(train=section)
        for section in (
            {},
            {"schedule": "piecewise", "piecewise": {"lr": annealing}},
            {"schedule": "wsd", "decay_shape": "sqrt", "decay_fraction": 0.5},
            {"schedule": "inverse_sqrt"},
            {"piecewise": others},
        )
    ]


def test_a_bundle_of_mixed_schedules_has_the_numbers_of_each_alone():
    configs = _mixed()
    assert len({config.bundle for config in configs}) == 1
    assert len({config.run_id for config in configs}) == len(configs)
    execution = Execution(device="cpu", runs_at_once=len(configs))
    outcomes = Trainer(configs[0], execution).fit(configs)
    for outcome, config in zip(outcomes, configs, strict=True):
        alone = train(config, Execution(device="cpu"))
        for point, expected in zip(outcome.curve, alone.curve, strict=True):
            assert point.lr_scale == expected.lr_scale
            assert point.train_loss == pytest.approx(expected.train_loss, rel=1e-4)
        assert outcome.val_loss == pytest.approx(alone.val_loss, rel=1e-4)
    assert len({round(outcome.val_loss, 4) for outcome in outcomes}) == len(configs)


def test_courses_that_stay_at_one_change_nothing():
    """To the bit: what is not scheduled is not touched."""
    still = dict.fromkeys(("weight_decay", "one_minus_beta1", "one_minus_beta2"), CONSTANT)
    scheduled = small_config(train={"piecewise": still})
    usual = train(small_config(), Execution(device="cpu"))
    assert train(scheduled, Execution(device="cpu")).curve == usual.curve
