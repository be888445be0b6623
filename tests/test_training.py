"""Training on the CPU: identities, golden numbers, data, schedules, compilation, precision."""

import math
import shutil

import pytest
import torch
from support.models import adamw, initialised
from support.runs import small_config, train

from paper_repro.config import Execution
from paper_repro.data import load_dataset
from paper_repro.parameterization import PARAMETERIZATIONS
from paper_repro.training import Observer, Trainer, trainer
from paper_repro.training.devices import compiler_problem


def test_identity_at_the_base(tmp_path):
    """At the base shape every parameterisation is the same run, to the bit."""
    metrics = {
        name: train(
            small_config(scaling={"parameterization": name}), tmp_path / name
        ).metrics_path.read_bytes()
        for name in PARAMETERIZATIONS
    }
    assert len(set(metrics.values())) == 1


def test_cancellation_of_batch_and_tokens(tmp_path):
    """m_B = m_D changes nothing: a run at twice base batch and tokens equals one stated there."""
    grown = {"train": {"batch_size": 8, "tokens": 24 * 64}}
    stated = {"scaling": {"base_batch_size": 8, "base_tokens": 24 * 64}}
    first = train(small_config(**grown), tmp_path / "grown")
    second = train(small_config(**grown, **stated), tmp_path / "stated")
    assert first.metrics_path.read_bytes() == second.metrics_path.read_bytes()


@pytest.mark.parametrize("depth", [2, 4])
def test_output_multiplier_form_equals_absorbed_form(depth):
    """CompleteP with its ε gaps closed is Complete(d)P, step by step.

    With W = W'/m_N, (multiplier 1/m_N, σ² 1, η 1, λ 1, ε 1/m_N) and (no multiplier, σ² m_N⁻²,
    η m_N⁻¹, λ m_N, ε 1) are one AdamW trajectory. ε is large here, so that it takes part.
    """
    shape = {"model": {"width": 64, "depth": depth}}
    common = {"lr": 0.01, "eps": 1e-3, "weight_decay": 0.5}
    closed_gaps = {
        "unembedding": {"eps": 1 / 4},
        "embedding": {"eps": 1 / 4},
        "query_norm": {"eps": 4.0},
        "key_norm": {"eps": 4.0},
    }
    absorbed = small_config(**shape, hyperparameters=common)
    multiplied = small_config(
        **shape,
        scaling={"parameterization": "completep"},
        hyperparameters=common | {"module_multipliers": closed_gaps},
    )
    with_gaps = small_config(
        **shape, scaling={"parameterization": "completep"}, hyperparameters=common
    )
    reference = trajectory(absorbed)
    torch.testing.assert_close(trajectory(multiplied), reference, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(trajectory(with_gaps), reference, rtol=1e-4, atol=1e-5)


def trajectory(config, steps=8) -> torch.Tensor:
    """Losses of a few full-rate AdamW steps on fixed random tokens."""
    model = initialised(config)
    optimizer = adamw(model, config)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(steps):
        cross_entropy, _ = model.loss(torch.randint(50, (4, 17), generator=generator))
        cross_entropy.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(cross_entropy.detach())
    return torch.stack(losses)


GOLDEN_FIRST = 5.631978
GOLDEN_LAST = 3.980623
GOLDEN_VALIDATION = 4.006806


def test_golden_losses(tmp_path):
    """Pins the numbers of a whole small run.

    Legitimate reasons to update: a deliberate change of model, initialisation, data, optimiser or
    schedule, named in the commit. Tolerance: kernels differ between CPUs in the last digits.
    """
    record = train(small_config(), tmp_path)
    first, *_, last = record.metrics()
    assert first["train_loss"] == pytest.approx(GOLDEN_FIRST, abs=2e-5)
    assert last["train_loss"] == pytest.approx(GOLDEN_LAST, abs=2e-3)
    assert last["val_loss"] == pytest.approx(GOLDEN_VALIDATION, abs=2e-3)


@pytest.mark.parametrize(
    ("parameterization", "golden"),
    [
        ("sp", 2.966973),
        ("sp_fan_in", 2.939112),
        ("mup", 3.723489),
        ("completep", 4.000170),
        ("complete_d", 4.278767),
    ],
)
def test_golden_losses_away_from_the_base(parameterization, golden):
    """Pins what each parameterisation makes of a wider, deeper model and a smaller batch.

    ε and decay are large, so that their rules act too. To be updated as `test_golden_losses` is.
    """
    config = small_config(
        model={"width": 32, "depth": 4},
        train={"batch_size": 2},
        scaling={"parameterization": parameterization, "alpha": 0.5},
        hyperparameters={"eps": 1e-3, "weight_decay": 1.0},
    )
    outcome = trainer.train(config, Execution(device="cpu"))
    assert outcome.val_loss == pytest.approx(golden, abs=2e-3)


def test_metrics_hold_evaluations_and_schedule(tmp_path):
    lines = train(small_config(), tmp_path).metrics()
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["step"] for line in lines if "val_loss" in line] == [4, 8, 12]
    assert lines[0]["lr_scale"] == 1.0  # a warm-up of 10 % of 12 steps is one step
    assert lines[-1]["lr_scale"] < 0.2


def test_another_validation_set_judges_the_same_training():
    outcomes = [trainer.train(small_config(train={"eval_set": k})) for k in (0, 1)]
    assert outcomes[0].train_loss == outcomes[1].train_loss
    assert outcomes[0].val_loss != outcomes[1].val_loss
    assert small_config().bundle != small_config(train={"eval_set": 1}).bundle


def test_runs_that_share_a_seed_see_the_same_data(tmp_path):
    """With a vanishing learning rate the training losses are those of the initial model."""
    frozen = {"lr": 1e-30, "weight_decay": 0.0}
    seeds = {}
    for name, seed, decay in (("a", 0, 0.0), ("b", 0, 0.3), ("c", 1, 0.0)):
        config = small_config(hyperparameters=frozen | {"weight_decay": decay}, seed=seed)
        seeds[name] = [line["train_loss"] for line in train(config, tmp_path / name).metrics()]
    assert seeds["a"] == seeds["b"] != seeds["c"]


def test_the_seed_chooses_the_data(tmp_path):
    config = small_config(seed=3)
    first = train(config, tmp_path).metrics()[0]
    dataset = load_dataset(config.data)
    model = initialised(config, dataset.vocab_size)
    loss, _ = model.loss(dataset.training_batch(3, 0, config.train.batch_size))
    assert first["train_loss"] == pytest.approx(loss.item(), rel=1e-6)


def test_clipping_changes_the_run_only_if_it_bites(tmp_path):
    def loss(clip):
        # ε above the gradients: Adam would otherwise undo the rescaling
        config = small_config(train={"clip": clip}, hyperparameters={"eps": 1.0, "lr": 1.0})
        return train(config, tmp_path / str(clip)).status().val_loss

    assert loss(1e9) == pytest.approx(loss(None), rel=1e-6)
    assert abs(loss(1e-3) - loss(None)) > 1e-3


class Norms(Observer):
    """The norm of the gradients at every step, by hand, and those of the learning curve."""

    watches = True

    def __init__(self) -> None:
        self.steps, self.logged = [], {}

    def gradients(self, model, step):
        squares = [p.grad.double().square().sum() for p in model.parameters()]
        self.steps.append(math.sqrt(sum(squares)))

    def log(self, point):
        self.logged[point.step] = point.gradient_norm


def test_the_largest_gradient_norm_since_the_line_before_is_logged(tmp_path):
    config = small_config(train={"tokens": 150 * 64}, scaling={"base_tokens": 150 * 64})
    norms, execution = Norms(), Execution(device="cpu", gradient_norms=True)
    trainer.train(config, execution, norms)
    before = 0
    assert 30 < len(norms.logged) < 75  # some lines are of several steps
    for step, norm in norms.logged.items():
        assert norm == pytest.approx(max(norms.steps[before:step]), rel=1e-5)
        before = step
    lines = train(config, tmp_path / "whole", execution).metrics()
    assert [line["gradient_norm"] for line in lines] == list(norms.logged.values())
    train(config, tmp_path / "parts", execution, stop_after=20)
    assert train(config, tmp_path / "parts", execution).metrics() == lines
    unasked = train(config, tmp_path / "unasked").metrics()
    assert unasked == [
        {key: value for key, value in line.items() if key != "gradient_norm"} for line in lines
    ]


def test_runs_that_train_at_once_have_norms_of_their_own():
    configs = [small_config(hyperparameters={"lr": 2.0**power}) for power in (-8, -5)]
    execution = Execution(device="cpu", gradient_norms=True)
    observers = [[Norms() for _ in configs] for _ in range(2)]
    for observed in observers:
        for norms in observed:
            norms.watches = False
    Trainer(configs[0], execution.model_copy(update={"runs_at_once": 2})).fit(configs, observers[0])
    Trainer(configs[0], execution).fit(configs, observers[1])
    for together, alone in zip(*observers, strict=True):
        assert together.logged == pytest.approx(alone.logged, rel=1e-4)
    assert observers[0][0].logged[12] != pytest.approx(observers[0][1].logged[12], rel=1e-3)


@pytest.mark.parametrize(
    ("how", "tolerance"),
    [({"recompute": True}, 0.0), ({"accumulate": 3}, 1e-5), ({"accumulate": 100}, 1e-5)],
)
def test_saving_memory_changes_no_numbers(how, tolerance, tmp_path):
    config = small_config(train={"clip": 0.5})
    usual = train(config, tmp_path / "usual").metrics()
    saving = train(config, tmp_path / "saving", Execution(device="cpu", **how)).metrics()
    for line, expected in zip(saving, usual, strict=True):
        assert line == pytest.approx(expected, rel=tolerance, abs=0)


@pytest.mark.slow
def test_compiled_equals_eager(tmp_path):
    eager = train(small_config(), tmp_path / "eager").status().val_loss
    compiled = (
        train(small_config(), tmp_path / "compiled", Execution(device="cpu", compile=True))
        .status()
        .val_loss
    )
    assert compiled == pytest.approx(eager, abs=1e-3)


@pytest.mark.parametrize("problem", ["absent", "failing", "no headers", "no assembler", "no place"])
def test_without_a_working_compiler_the_step_is_not_compiled(
    problem, tmp_path, monkeypatch, caplog
):
    """One warning, and the record says so."""
    told = {
        **{"absent": "No such file", "failing": "out of licences", "no headers": "Python.h"},
        **{"no assembler": "cannot execute", "no place": str(tmp_path / "file")},
    }
    compiler = tmp_path / "c++"
    if problem == "failing":
        compiler.write_text("#!/bin/sh\necho 'error: out of licences' >&2\nexit 1\n")
        compiler.chmod(0o755)
    if problem == "no assembler":
        compiler.write_text('#!/bin/sh\nPATH= COMPILER_PATH= exec /usr/bin/g++ -B/nowhere "$@"\n')
        compiler.chmod(0o755)
    if problem == "no headers":
        monkeypatch.setattr("sysconfig.get_path", lambda *_: str(tmp_path))
    elif problem == "no place":
        (tmp_path / "file").touch()
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "cache"))
    else:
        monkeypatch.setattr("paper_repro.training.devices.COMPILER", str(compiler))
    record = train(small_config(), tmp_path / "run", Execution(device="cpu", compile=True))
    assert record.status().status == "done"
    assert record.run_info().execution["compile"] is False
    (warning,) = [m for m in caplog.messages if "the training step is not compiled" in m]
    assert told[problem] in warning


def test_the_compiler_of_this_machine_works():
    """Where it does not, runs are not compiled and take longer."""
    assert shutil.which("g++") is None or compiler_problem() is None


def test_autocast_stays_close_to_float32(tmp_path):
    full = train(small_config(), tmp_path / "full").status().val_loss
    half = (
        train(small_config(), tmp_path / "half", Execution(device="cpu", dtype="bfloat16"))
        .status()
        .val_loss
    )
    assert half == pytest.approx(full, abs=0.05)
    assert half != full
