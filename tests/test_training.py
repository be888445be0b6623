"""Training on the CPU: identities, resumption to the bit, outcomes, schedules, golden numbers."""

import json
import os
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch
from support.models import adamw, initialised
from support.runs import small_config, train

from paper_repro.config import Execution, TrainConfig
from paper_repro.data import load_dataset
from paper_repro.files import write_json
from paper_repro.parameterization import COLUMNS
from paper_repro.records import Record
from paper_repro.records.bundle import train_bundle
from paper_repro.records.lease import Identity, LeasedRun, take_lease
from paper_repro.records.provenance import code_files, hash_code
from paper_repro.training import RunLostError, trainer
from paper_repro.training.devices import compiler_problem
from paper_repro.training.schedules import lr_scale


def test_identity_at_the_base(tmp_path):
    """At the base shape every parameterisation is the same run, to the bit."""
    metrics = {
        name: train(
            small_config(scaling={"parameterization": name}), tmp_path / name
        ).metrics_path.read_bytes()
        for name in COLUMNS
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


def test_stopped_and_resumed_equals_undisturbed(tmp_path):
    # 120 steps: a line of metrics every two, so that stops fall between lines
    config = small_config(train={"tokens": 120 * 64})
    whole = train(config, tmp_path / "whole")
    train(config, tmp_path / "parts", stop_after=6)
    parts = train(config, tmp_path / "parts", stop_after=4)
    assert [line["step"] for line in parts.metrics()] == [1, 3, 5, 7, 9]
    assert parts.status() is None
    assert parts.checkpoint_path.exists()
    train(config, tmp_path / "parts")
    assert parts.metrics_path.read_bytes() == whole.metrics_path.read_bytes()
    assert parts.status().val_loss == whole.status().val_loss
    assert not parts.checkpoint_path.exists()


def test_crash_after_a_checkpoint_leaves_no_double_lines(tmp_path):
    """Lines written after the checkpoint that survived a kill are written again, once."""
    config = small_config()
    whole = train(config, tmp_path / "whole")
    record = train(config, tmp_path / "killed", stop_after=6)
    with record.metrics_path.open("a") as file:
        for step in (7, 8):
            file.write(json.dumps({"step": step, "train_loss": 9.9}) + "\n")
        file.write('{"step": 9, "train_')
    train(config, tmp_path / "killed")
    assert record.metrics_path.read_bytes() == whole.metrics_path.read_bytes()


@pytest.mark.parametrize(
    "damage", ["truncated", "cut short", "garbage", "empty", "other data", "half"]
)
def test_damaged_checkpoint_starts_anew(tmp_path, damage):
    config = small_config()
    whole = train(config, tmp_path / "whole")
    record = train(config, tmp_path / "run", stop_after=6)
    content = record.checkpoint_path.read_bytes()
    if damage == "half":  # the model loads, the optimiser does not
        checkpoint = torch.load(record.checkpoint_path, weights_only=True)
        checkpoint["model"]["embedding.weight"].zero_()
        torch.save(checkpoint | {"optimizer": {}}, record.checkpoint_path)
    elif damage == "other data":
        checkpoint = torch.load(record.checkpoint_path, weights_only=True)
        checkpoint["model"]["embedding.weight"].zero_()  # going on from here would show
        torch.save(checkpoint | {"corpus_hash": "other"}, record.checkpoint_path)
    else:
        broken = {
            "truncated": content[: len(content) // 2],
            "cut short": content[:20_000],  # torch says so in another way
            "garbage": b"x" * 100,
            "empty": b"",
        }
        record.checkpoint_path.write_bytes(broken[damage])
    train(config, tmp_path / "run")
    assert record.metrics_path.read_bytes() == whole.metrics_path.read_bytes()


def test_metrics_damaged_before_the_checkpoint_start_anew(tmp_path):
    config = small_config()
    whole = train(config, tmp_path / "whole")
    record = train(config, tmp_path / "run", stop_after=6)
    lines = record.metrics_path.read_text().splitlines(keepends=True)
    record.metrics_path.write_text("".join(lines[:2]) + lines[2][:9])
    train(config, tmp_path / "run")
    assert record.metrics_path.read_bytes() == whole.metrics_path.read_bytes()


@pytest.mark.parametrize("damage", [b"\xff\xfe\n", b'{"loss": 1}\n', b"7\n", b'{"step": 9, "tra'])
def test_what_is_no_line_of_metrics_ends_the_list(tmp_path, damage):
    config = small_config()
    whole = train(config, tmp_path / "whole")
    record = train(config, tmp_path / "run", stop_after=6)
    with record.metrics_path.open("ab") as file:
        file.write(damage)
    assert [line["step"] for line in record.metrics()] == [1, 2, 3, 4, 5, 6]
    train(config, tmp_path / "run")
    assert record.metrics_path.read_bytes() == whole.metrics_path.read_bytes()


def test_a_step_written_by_two_owners_is_one_line(tmp_path):
    record = Record(tmp_path)
    lines = [{"step": step, "train_loss": 1.0 / step} for step in (1, 2, 3, 4)]
    for line in [*lines[:2], lines[3], lines[1], *lines[2:]]:
        record.append_metrics(line)
    assert record.metrics() == lines


def test_divergence_is_an_outcome(tmp_path):
    record = train(small_config(hyperparameters={"lr": 1e5}), tmp_path)
    status = record.status()
    assert status.status == "diverged"
    assert status.val_loss is None
    assert status.step < status.steps
    assert record.finished
    assert record.metrics()


def test_failure_is_recorded_with_its_reason_and_tried_again(tmp_path):
    too_long = small_config(data={"corpus": "sotu"}, train={"tokens": 10**9})
    record = train(too_long, tmp_path)
    assert record.status().status == "failed"
    assert "max_epochs" in record.status().error
    assert record.status().log == "worker.log"
    assert "Traceback" in record.error_path.read_text()
    assert not record.finished


def test_a_worker_that_was_taken_over_leaves_the_record_alone(tmp_path):
    config, record = small_config(), Record(tmp_path)
    record.create(config)
    claim = take_lease(tmp_path)
    steps = []

    def taken_over_at_the_fifth_step():
        steps.append(record.metrics())
        if len(steps) == 5:
            write_json(claim.path, {"host": "elsewhere", "pid": 1, "started": "1"})
            os.utime(claim.path, (0, 0))
            assert take_lease(tmp_path) is not None
        return False

    run = LeasedRun(config, record, claim)
    train_bundle([run], Execution(device="cpu"), taken_over_at_the_fifth_step)
    assert len(steps) == 5
    assert record.metrics() == steps[-1]
    assert record.status() is None


def test_a_worker_that_its_own_requeued_job_took_over_ends(tmp_path):
    """The cluster does not know of this process any more: it must take no other run."""
    config, record = small_config(), Record(tmp_path)
    record.create(config)
    worker = Identity(host="n1", job="17")
    lease = take_lease(tmp_path, identity=worker)

    def requeue():
        take_lease(tmp_path, identity=replace(worker, host="n2", restarts=1))
        return False

    with pytest.raises(RunLostError):
        train_bundle([LeasedRun(config, record, lease)], Execution(device="cpu"), requeue)


@pytest.mark.parametrize("taken_over", [False, True])
def test_an_error_is_recorded_by_the_owner_only(tmp_path, taken_over):
    config, record = small_config(), Record(tmp_path)
    record.create(config)
    claim = take_lease(tmp_path)

    def fail():
        if taken_over:
            write_json(claim.path, {"host": "elsewhere", "pid": 1, "started": "1"})
            os.utime(claim.path, (0, 0))
            assert take_lease(tmp_path) is not None
        raise RuntimeError("broken")

    train_bundle([LeasedRun(config, record, claim)], Execution(device="cpu"), fail)
    assert (record.status() is None) is taken_over
    assert record.error_path.exists() is not taken_over


def test_record_says_what_a_reader_needs(tmp_path):
    record = train(small_config(), tmp_path)
    run = json.loads(record.run_path.read_text())
    assert run["data"]["corpus_hash"]
    assert 0 < run["data"]["bigram_entropy"] < run["data"]["unigram_entropy"]
    assert run["versions"]["torch"] == torch.__version__
    assert {group["tensor_class"] for group in run["groups"]} >= {"embedding", "qk_norm"}
    assert record.status().tokens == 12 * 64
    assert record.status().tokens_per_second > 0
    assert record.status().peak_host_memory_bytes >= record.status().peak_memory_bytes > 1e8
    assert record.config() == small_config()


def test_record_says_by_which_code_the_steps_were_taken(tmp_path, monkeypatch, caplog):
    hashes = iter(["aaa", "aaa", "bbb", "aaa"])
    for stop_after in (2, 2, 2, 99):
        monkeypatch.setattr("paper_repro.records.provenance.code_hash", partial(str, next(hashes)))
        record = train(small_config(), tmp_path, stop_after=stop_after)
    run = json.loads(record.run_path.read_text())
    assert run["code_hash"] == "aaa"
    assert [code["code_hash"] for code in run["earlier_code"]] == ["aaa", "bbb"]
    assert caplog.text.count("resumed by other code") == 2


def test_a_run_from_the_start_has_no_earlier_code(tmp_path, monkeypatch):
    record = train(small_config(), tmp_path, stop_after=2)
    first = json.loads(record.run_path.read_text())
    assert (first["code_hash"], first["earlier_code"]) == (hash_code(code_files()), [])
    record.checkpoint_path.unlink()
    monkeypatch.setattr("paper_repro.records.provenance.code_hash", lambda: "other")
    run = json.loads(train(small_config(), tmp_path).run_path.read_text())
    assert (run["code_hash"], run["earlier_code"]) == ("other", [])


def test_a_record_says_in_which_precisions_its_steps_were_taken(tmp_path, caplog):
    ways = [Execution(device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16", "bfloat16")]
    for way in ways:
        record = train(small_config(), tmp_path, way, stop_after=2)
    info = record.run_info()
    assert info.execution["dtype"] == "bfloat16"
    assert [how["dtype"] for how in info.earlier_execution] == ["float32"]
    assert caplog.text.count("several precisions") == 2
    record.checkpoint_path.unlink()
    assert train(small_config(), tmp_path, ways[0]).run_info().earlier_execution == []


def test_code_that_the_record_no_longer_knows_is_not_hidden(tmp_path):
    record = train(small_config(), tmp_path, stop_after=2)
    record.run_path.write_text("{")
    run = json.loads(train(small_config(), tmp_path).run_path.read_text())
    assert run["earlier_code"] == [{"code_hash": None, "git_revision": None}]


def test_metrics_hold_evaluations_and_schedule(tmp_path):
    lines = train(small_config(), tmp_path).metrics()
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["step"] for line in lines if "val_loss" in line] == [4, 8, 12]
    assert lines[0]["lr_scale"] == 1.0  # a warm-up of 10 % of 12 steps is one step
    assert lines[-1]["lr_scale"] < 0.2


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


@pytest.mark.parametrize("problem", ["absent", "failing", "no headers"])
def test_without_a_working_compiler_the_step_is_not_compiled(
    problem, tmp_path, monkeypatch, caplog
):
    """One warning, and the record says so."""
    told = {"absent": "No such file", "failing": "out of licences", "no headers": "Python.h"}
    compiler = tmp_path / "c++"
    if problem == "failing":
        compiler.write_text("#!/bin/sh\necho 'error: out of licences' >&2\nexit 1\n")
        compiler.chmod(0o755)
    if problem == "no headers":
        monkeypatch.setattr("sysconfig.get_path", lambda *_: str(tmp_path))
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
