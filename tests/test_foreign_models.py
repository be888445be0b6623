"""Models that a factory makes train in sweeps as our GPT does: records, resuming, plans, errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from support import foreign
from support.runs import small_config, train

from paper_repro import RunConfig, Trainer
from paper_repro import train as train_alone
from paper_repro.apply.factory import count
from paper_repro.config import Execution, ModelConfig
from paper_repro.cost import counts, train_flops
from paper_repro.errors import ConfigError
from paper_repro.records import Record
from paper_repro.records.provenance import factory_code, factory_hash, hash_code
from paper_repro.schedules import Factors
from slurm.profiles import Profile
from slurm.snapshots import code_on_disk, copied, take_snapshot
from slurm.submit import scripts
from sweeps import launch, status
from sweeps.expand import read_sweep
from sweeps.plan import make_plan

NANO = {"mapping": "nanogpt"}


def config(factory: str = "build", **sections) -> RunConfig:
    """`small_config` of a factory of `support.foreign`."""
    model = {"width": 32, "depth": 2, "factory": f"support.foreign:{factory}", **NANO}
    small = small_config(**{**sections, "model": {"head_dim": 16}}).model_dump()
    small["model"] = model | sections.get("model", {})
    return RunConfig.model_validate(small)


def test_our_gpt_from_a_factory_has_the_losses_that_it_has_as_ours():
    """With ratios of width and depth: absorbed multipliers are the same training."""
    shape = {"width": 32, "depth": 4}
    losses = []
    for model in (
        shape | {"head_dim": foreign.HEAD},
        shape | {"factory": "support.foreign:ours", "mapping": "support.foreign:OURS"},
    ):
        run = small_config(model=model | {"head_dim": model.get("head_dim", 16)})
        outcome = train_alone(run, Execution(device="cpu"))
        losses.append([point.train_loss for point in outcome.curve] + [outcome.val_loss])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][-1] < losses[0][0] - 0.1


@pytest.mark.parametrize(("factory", "tied"), [("build", False), ("with_dropout", True)])
def test_a_stopped_run_ends_as_an_undisturbed_one_also_after_another(factory, tied, tmp_path):
    run = config(factory, model={"tied": tied})
    undisturbed = train(run, tmp_path / "undisturbed")
    stopped = train(run, tmp_path / "stopped", stop_after=5)
    assert not stopped.finished
    train(run, tmp_path / "stopped")
    assert stopped.metrics() == undisturbed.metrics()
    other = run.model_copy(update={"seed": 1})
    trainer = Trainer(run, Execution(device="cpu"))
    outcomes = trainer.fit([other, run])  # one model trains both
    assert [each.val_loss for each in outcomes][1] == undisturbed.status().val_loss
    assert trainer.runs_at_once == 1


def test_validation_has_no_dropout():
    run = config("with_dropout", model={"tied": True})
    trainer = Trainer(run, Execution(device="cpu"))
    learner = trainer.learners.learner([run])
    learner.schedule([Factors()], 0)
    batch = trainer.dataset.training_batch(0, 0, 4)
    with torch.no_grad():
        first, second = (learner.losses(batch[None])[0] for _ in range(2))
        assert first != second
        assert learner.evaluate(batch) == learner.evaluate(batch)


def test_the_factory_is_in_the_id_and_its_absence_is_not():
    ids = {config().run_id, config("ours", model={"mapping": "support.foreign:OURS"}).run_id}
    ids |= {config("with_dropout").run_id, config("with_dropout", model={"tied": True}).run_id}
    assert len(ids) == 4
    assert "factory" not in RunConfig().model_dump(exclude_defaults=True).get("model", {})


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ({"factory": "x:y", "head_dim": 8}, "model: head_dim: is of our GPT"),
        ({"factory": "x:y", "biases": True}, "model: biases: is of our GPT"),
        ({"mapping": "gpt2"}, "model: mapping: needs factory"),
        ({"tied": True}, "model: tied: needs factory"),
        ({"factory": "my_module"}, "model.factory: "),
    ],
)
def test_what_would_act_on_nothing_is_refused(model, problem, tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({"name": "s", "base": {"model": model}, "grid": {"seed": [0]}}))
    with pytest.raises(ConfigError, match=problem):
        read_sweep(path)


def test_counts_come_from_the_module_and_are_those_of_our_formulas():
    shape = ModelConfig(width=32, depth=3, head_dim=foreign.HEAD)
    other = ModelConfig(
        width=32, depth=3, factory="support.foreign:ours", mapping="support.foreign:OURS"
    )
    with torch.device("meta"):
        assert count(foreign.ours(32, 3), other) == counts(shape, foreign.VOCABULARY)
        tied = count(foreign.with_dropout(32, 3), ModelConfig(width=32, depth=3, **_tied()))
        untied = count(foreign.build(32, 3), ModelConfig(width=32, depth=3, **_tied(False)))
    assert tied.multiplied == untied.multiplied
    assert untied.parameters - tied.parameters == 32 * foreign.VOCABULARY


def _tied(tied: bool = True) -> dict:
    return {"factory": "support.foreign:build", "tied": tied, **NANO}


SWEEP = {
    "name": "tiny",
    "base": {
        "model": {"depth": 1},
        "data": {"corpus": "synthetic", "context": 16},
        "train": {"batch_size": 2, "tokens": 320, "evaluations": 1, "eval_sequences": 8},
        "scaling": {"base_width": 16, "base_depth": 1, "base_batch_size": 2, "base_tokens": 320},
    },
    "grid": {"model.width": [16, 32]},
}


def sweep_file(folder: Path, **model) -> Path:
    path = folder / "tiny.yaml"
    base = SWEEP["base"] | {"model": SWEEP["base"]["model"] | model}
    path.write_text(yaml.safe_dump(SWEEP | {"base": base}), encoding="utf-8")
    return path


def launched(path: Path, tmp_path: Path, *arguments: str) -> int:
    where = ["--runs-dir", str(tmp_path / "runs"), "--cluster", "debug", "--device", "cpu"]
    return launch.main([str(path), *where, *arguments])


def test_a_sweep_of_a_factory_is_launched_planned_and_recorded_as_any(tmp_path, capsys):
    path = sweep_file(tmp_path, factory="support.foreign:build", **NANO)
    assert launched(path, tmp_path) == 0
    assert launched(path, tmp_path) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert status.main([str(path), "--runs-dir", str(tmp_path / "runs")]) == 0
    assert "2 of 2 runs done" in capsys.readouterr().out
    plan = make_plan(read_sweep(path), tmp_path / "runs")
    for bundle in plan.bundles:
        built = foreign.build(bundle.config.model.width, 1)
        (run_id,) = bundle.runs
        info, ended = plan.records[run_id].run_info(), plan.records[run_id].status()
        assert bundle.parameters == info.parameters == sum(p.numel() for p in built.parameters())
        assert ended.flops == bundle.flops
        assert bundle.flops == train_flops(bundle.config, count(built, bundle.config.model))
        assert info.factory_hash == factory_hash("support.foreign:build")
        assert {group["tensor_class"] for group in info.groups} >= {"hidden_bias", "unembedding"}


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("absent_module:build", "No module named 'absent_module'"),
        ("support.foreign:absent", "has no attribute 'absent'"),
        ("support.foreign:VOCABULARY", "is no function of width and depth"),
        ("support.foreign:no_module", "returned list, expected a torch.nn.Module"),
        ("support.foreign:failing", "RuntimeError: no such width"),
        ("support.foreign:renamed", "parameters that match no pattern: model.wte.weight, "),
        (
            "support.foreign:fixed_width",
            "(32, 1): its width is 1 times that of the base (16), expected 2 times",
        ),
        ("support.foreign:small_vocabulary", "a vocabulary of 64, expected 256 or more"),
        ("support.foreign:with_dropout", "shared parameters: "),
        ("support.foreign:no_logits", "the model returned dict, expected logits"),
        ("support.foreign:bidirectional", "logits depend on later tokens"),
    ],
)
def test_what_is_wrong_with_a_factory_is_one_line_before_anything_is_trained(
    model, problem, tmp_path, capsys
):
    path = sweep_file(tmp_path, factory=model, **NANO)
    assert launched(path, tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: model.factory: {model}")
    assert problem in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_mapping_of_ones_own_and_multipliers_of_what_is_not_there(tmp_path, capsys):
    path = sweep_file(tmp_path, factory="support.foreign:build", mapping="nano")
    assert launched(path, tmp_path) == 2
    assert "mapping: 'nano' is none of gpt2, nanogpt, llama, qwen3" in capsys.readouterr().err
    path = sweep_file(tmp_path, factory="support.foreign:build", mapping="support.foreign:HEAD")
    assert launched(path, tmp_path) == 2
    assert "is no list of paper_repro.apply.Pattern" in capsys.readouterr().err
    path = sweep_file(tmp_path, factory="support.foreign:build", **NANO)
    multiplied = "hyperparameters.module_multipliers={query_norm: {lr: 2.0}}"
    assert launched(path, tmp_path, "--set", multiplied) == 2
    assert "has no query_norm, of which multipliers are given" in capsys.readouterr().err
    assert launched(path, tmp_path, "--recompute") == 2
    assert "--recompute: only for our GPT" in capsys.readouterr().err


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of a user's, in a directory that Python looks into."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    path = folder / "their_model.py"
    path.write_text("from support.foreign import build\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    factory_hash.cache_clear()
    yield path
    sys.modules.pop("their_model", None)
    factory_hash.cache_clear()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("build = 1 / 0", "ZeroDivisionError: division"),
        ("def build(", "SyntaxError: '(' was never"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(module, text, problem, tmp_path, capsys):
    module.write_text(text, encoding="utf-8")
    path = sweep_file(tmp_path, factory="their_model:build", **NANO)
    assert launched(path, tmp_path) == 2
    assert f"model.factory: their_model:build: {problem}" in capsys.readouterr().err


def test_an_edited_model_is_noticed(module, tmp_path, capsys):
    path = sweep_file(tmp_path, factory="their_model:build", **NANO)
    assert launched(path, tmp_path) == 0
    other = tmp_path / "other.yaml"
    other.write_text(path.read_text().replace("name: tiny", "name: other"), encoding="utf-8")
    assert launched(other, tmp_path, "--dry-run") == 0
    assert "of these, finished in tiny: 2" in capsys.readouterr().out
    factory_hash.cache_clear()
    module.write_text("from support.foreign import build  # edited\n", encoding="utf-8")
    assert launched(other, tmp_path, "--dry-run") == 0
    assert "finished in" not in capsys.readouterr().out
    assert launched(path, tmp_path) == 2
    error = capsys.readouterr().err
    assert "2 of its runs were trained by other code of their_model:build" in error
    assert "give another --runs-dir, or delete them" in error
    assert status.main([str(path), "--runs-dir", str(tmp_path / "runs")]) == 0
    assert "2 of the runs were trained by other code" in capsys.readouterr().out


def test_a_resumed_run_tells_of_the_model_it_began_with(module, tmp_path):
    run = config(model={"factory": "their_model:build"})
    train(run, tmp_path / run.run_id, stop_after=5)
    before = factory_hash("their_model:build")
    factory_hash.cache_clear()
    module.write_text("from support.foreign import build  # edited\n", encoding="utf-8")
    train(run, tmp_path / run.run_id)
    info = json.loads((tmp_path / run.run_id / "run.json").read_text())
    assert info["factory_hash"] == factory_hash("their_model:build") != before
    assert [code["factory_hash"] for code in info["earlier_code"]] == [before]


def test_a_job_runs_the_copy_of_a_factory_and_finds_what_lies_beside_it(module, tmp_path):
    factories = ("their_model:build", "torch.nn:Linear", "paper_repro.model:GPT")
    (code,) = copied(factories)  # neither what is installed nor what is copied anyway
    assert (code.root, code.package) == (module.parent, "their_model")
    plain, snapshot = take_snapshot(tmp_path / "s"), take_snapshot(tmp_path / "s", factories)
    assert snapshot != plain
    assert (snapshot / "their_model.py").read_bytes() == module.read_bytes()
    assert snapshot.name == hash_code(code_on_disk(factories))
    (script,) = scripts(Profile(), "s", 1, tmp_path / "s" / "jobs", factories)
    assert f"PYTHONPATH={snapshot}:{module.parent}" in script
    module.write_text("build = None\n", encoding="utf-8")
    assert take_snapshot(tmp_path / "s", factories) != snapshot
    assert factory_code("support.foreign:build").root == Path(__file__).parent
    with pytest.raises(ConfigError, match="no module 'absent'"):
        copied(["absent.module:build"])


def test_a_record_says_which_model_it_is_of(tmp_path):
    run = config()
    record = train(run, tmp_path / run.run_id)
    assert Record(record.directory).config() == run
    assert record.config().model.factory == "support.foreign:build"
