"""The library as it is imported: what is public, and training without a record."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import small_config
from support.runs import train as train_recorded

import paper_repro
from paper_repro import Execution, Observer, RunConfig, Trainer, train
from paper_repro.training.trainer import DIVERGED_ABOVE

ROOT = Path(__file__).parent.parent


def test_public_names_are_there_and_documented():
    for name in paper_repro.__all__:
        assert inspect.getdoc(getattr(paper_repro, name)), name
        assert name in dir(paper_repro)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        paper_repro.trian  # noqa: B018


def test_the_package_is_imported_without_torch_and_pandas():
    code = "import sys, paper_repro; print([m for m in ('torch', 'pandas') if m in sys.modules])"
    found = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert found == "[]\n"


def test_a_run_trains_without_a_record_as_it_does_with_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = train(small_config(), Execution(device="cpu"))
    assert list(tmp_path.iterdir()) == []
    record = train_recorded(small_config(), tmp_path / "record")
    status = record.status()
    assert (outcome.status, outcome.val_loss) == (status.status, status.val_loss)
    assert (outcome.step, outcome.tokens) == (status.step, status.tokens) == (12, 12 * 64)
    lines = [
        {key: value for key, value in vars(point).items() if value is not None}
        for point in outcome.curve
    ]
    assert lines == record.metrics()


def test_a_diverged_run_says_so():
    outcome = train(small_config(hyperparameters={"lr": 1e5}))
    assert (outcome.status, outcome.val_loss) == ("diverged", None)
    assert not outcome.train_loss < DIVERGED_ABOVE * outcome.curve[0].train_loss
    assert outcome.step < small_config().steps


def test_a_run_that_cannot_be_trained_raises_and_the_trainer_goes_on():
    too_long = small_config(train={"tokens": 10**12})
    trainer = Trainer(too_long)
    with pytest.raises(paper_repro.ConfigError, match="max_epochs"):
        trainer.fit([too_long])
    (outcome,) = trainer.fit([small_config()])
    assert outcome.val_loss == train(small_config()).val_loss


class Watcher(Observer):
    """Notes what it is told."""

    watches = True

    def __init__(self):
        self.told, self.norms = [], []

    def start(self, start):
        self.told.append(("start", start.step, start.runs_at_once))

    def log(self, point):
        self.told.append(("log", point.step))

    def gradients(self, model, step):
        assert step == len(self.norms)
        self.norms.append(model.unembedding.weight.grad.norm().item())

    def save(self, checkpoint):
        raise AssertionError("asked for no checkpoints")

    def end(self, outcome):
        self.told.append(("end", outcome.step))


def test_an_observer_is_told_of_the_run_and_changes_nothing():
    watcher, config = Watcher(), small_config()
    outcome = train(config, observer=watcher)
    logged = [("log", step) for step in range(1, 13)]
    assert watcher.told == [("start", 0, 1), *logged, ("end", 12)]
    assert len(watcher.norms) == 12
    assert all(norm > 0 for norm in watcher.norms)
    assert outcome.curve == train(config).curve


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_runs_of_a_bundle_may_differ_in_all_that_is_data(at_once):
    """Schedules, clips, z-loss, rules and rates: everything but shapes."""
    configs = [
        small_config(),
        small_config(train={"schedule": "wsd", "warmup_fraction": 0.5, "clip": 0.1}),
        small_config(
            train={"schedule": "constant", "z_loss": 0.1, "final_fraction": 0.5},
            scaling={"base_width": 8, "parameterization": "sp"},
            hyperparameters={"lr": 2**-5, "beta2": 0.9},
            seed=1,
        ),
    ]
    assert len({config.bundle for config in configs}) == 1
    trainer = Trainer(configs[0], Execution(device="cpu", runs_at_once=at_once))
    outcomes = trainer.fit(configs)
    for outcome, config in zip(outcomes, configs, strict=True):
        alone = train(config, Execution(device="cpu"))
        for point, expected in zip(outcome.curve, alone.curve, strict=True):
            assert point.lr_scale == expected.lr_scale
            assert point.train_loss == pytest.approx(expected.train_loss, rel=1e-4)
        assert outcome.val_loss == pytest.approx(alone.val_loss, rel=1e-4)
    assert len({round(outcome.val_loss, 3) for outcome in outcomes}) == 3


def test_what_changes_a_shape_or_the_graph_is_another_bundle():
    one = small_config()
    others = [
        {"model": {"width": 32}},
        {"model": {"qk_norm": False}},
        {"data": {"context": 8}},
        {"train": {"batch_size": 2}},
        {"train": {"tokens": 13 * 64}},
        {"train": {"evaluations": 1}},
        {"train": {"eval_sequences": 4}},
    ]
    assert all(small_config(**other).bundle != one.bundle for other in others)


def test_a_stop_leaves_runs_without_an_outcome():
    configs = [small_config(seed=seed) for seed in range(3)]
    asked, watchers = iter(range(100)), [Watcher() for _ in configs]
    outcomes = Trainer(configs[0]).fit(configs, watchers, lambda: next(asked) == 15)
    assert [outcome and outcome.status for outcome in outcomes] == ["done", None, None]


def test_every_default_trains():
    """A run of the defaults is planned whole and starts."""
    asked = iter([True])
    (outcome,) = Trainer(RunConfig()).fit([RunConfig()], should_stop=lambda: next(asked))
    assert outcome is None
