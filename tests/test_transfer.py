"""`python -m paper_repro.transfer`: the numbers of a target, as training has them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from support.tuned_files import on_files

from paper_repro import transfer
from paper_repro.apply import TRAINERS
from paper_repro.config import RunConfig
from paper_repro.hyperparameters import resolve
from paper_repro.search import tuned

TUNED = {
    "scaling": {"base_width": 32, "base_depth": 4, "base_batch_size": 4, "base_tokens": 65_536},
    "train": {"warmup_fraction": 0.2},
    "hyperparameters": {
        "lr": 0.02,
        "residual": 0.5,
        "module_multipliers": {"query": {"lr": 2.0}, "mlp_out": {"residual": 3.0}},
        "depth_multipliers": {"lr": [1.0, 2.0, 4.0, 8.0]},
    },
}
TARGET = {
    "model": {"width": 128, "depth": 7, "head_dim": 16},
    "train": {"batch_size": 16, "tokens": 1_048_576},
}


@pytest.fixture
def command(tmp_path, capsys):
    return on_files(transfer.main, tmp_path, capsys)


def test_numbers_are_the_base_times_multipliers_times_the_rules(command):
    """By hand, Table 1 of arXiv 2512.22382: m_N = 4, m_L = 7/4, m_B = 4, m_D = 16, α = 1."""
    code, out, _ = command(TUNED, TARGET, "--json")
    content, sde = json.loads(out), 0.5
    assert code == 0
    assert content["steps"] == 512
    assert content["iterations"] == 4
    query, embedding = content["module_types"]["query"], content["module_types"]["embedding"]
    assert sorted(query) == [str(block) for block in range(7)]
    rates = [query[str(block)]["lr"] for block in range(7)]
    # The depth multipliers of 4 blocks at relative depth k/6: 1, 1.5, 2, 3, 4, 6, 8.
    assert rates == pytest.approx(
        [0.02 * 2 * depth / 4 * sde for depth in (1, 1.5, 2, 3, 4, 6, 8)], rel=1e-12
    )
    assert query["0"]["weight_decay"] == pytest.approx(0.1 * 4 * sde)
    assert query["0"]["eps"] == pytest.approx(1e-8 / 4 / (7 / 4) / sde)
    assert query["0"]["one_minus_beta1"] == pytest.approx(0.1 / 4)
    assert query["0"]["beta2"] == pytest.approx(1 - 0.05 / 4)
    assert query["0"]["init_variance"] == pytest.approx(0.125**2 / 4)
    assert embedding["lr"] == pytest.approx(0.02 * sde)  # no depth multiplier outside the blocks
    multipliers = content["multipliers"]
    assert multipliers["residual"]["attention_out"] == pytest.approx([0.5 * 4 / 7] * 7)
    assert multipliers["residual"]["mlp_out"] == pytest.approx([1.5 * 4 / 7] * 7)
    assert multipliers["logits"] == 1


def test_every_parameter_of_a_training_is_there(command):
    biases = {**TARGET, "model": {**TARGET["model"], "biases": True}}
    _, out, _ = command(TUNED, biases, "--json")
    found = json.loads(out)["module_types"]
    config = RunConfig.model_validate(
        {**biases, **TUNED, "train": {**TARGET["train"], **TUNED["train"]}}
    )
    resolved = resolve(config)
    for name, numbers in resolved.parameters.items():
        label = resolved.labels[name]
        tensor = label.module_type + ("_bias" if name.endswith("bias") else "")
        entry = found[tensor] if label.block is None else found[tensor][str(label.block)]
        assert entry["lr"] == numbers.lr, name
        assert entry["eps"] == numbers.eps, name
        assert entry["init_std"] == numbers.init_std, name
    assert sum(len(entry) if "0" in entry else 1 for entry in found.values()) == len(
        resolved.parameters
    )


def test_at_the_base_the_numbers_are_those_of_the_file(command):
    base = {"model": {"width": 32, "depth": 4}, "train": {"batch_size": 4, "tokens": 65_536}}
    _, out, _ = command(TUNED, base, "--json")
    content = json.loads(out)
    assert [content["module_types"]["key"][str(b)]["lr"] for b in range(4)] == [
        *(0.02, 0.04, 0.08, 0.16)
    ]
    assert content["multipliers"]["residual"]["mlp_out"] == [1.5] * 4


def test_the_table_has_a_row_for_blocks_of_equal_numbers(command):
    flat = {**TUNED, "hyperparameters": {"lr": 0.02, "depth_multipliers": {"eps": [1, 1, 2]}}}
    code, out, _ = command(flat, TARGET)
    assert code == 0
    assert "m_N = 4, m_L = 1.75, m_B = 4, m_D = 16" in out
    rows = [line.split()[:2] for line in out.splitlines() if line.startswith("query ")]
    assert rows == [["query", "0-3"], ["query", "4"], ["query", "5"], ["query", "6"]]
    assert "512 steps of 16 x 128 tokens" in out


def test_the_json_is_written_to_a_file_too(command, tmp_path):
    code, out, _ = command(TUNED, TARGET, "--json", "--output", str(tmp_path / "target.json"))
    assert code == 0
    assert json.loads((tmp_path / "target.json").read_text()) == json.loads(out)
    code, _, error = command(TUNED, TARGET, "--output", str(tmp_path / "none" / "target.json"))
    assert code == 2
    assert "cannot be written" in error


def test_what_a_search_leaves_can_be_transferred(command):
    config = RunConfig.model_validate({**TUNED, "model": {"width": 32, "depth": 4}})
    code, _, error = command(tuned(config), TARGET)
    assert (code, error) == (0, "")


def _without(content: dict, key: str) -> dict:
    return {name: value for name, value in content.items() if name != key}


@pytest.mark.parametrize(
    ("tuned_file", "target", "problem"),
    [
        (_without(TUNED, "scaling"), TARGET, "{tuned}: scaling.base_width: expected the shape"),
        ({**TUNED, "hyperparameters": {"rate": 1}}, TARGET, "{tuned}: hyperparameters.rate: unkn"),
        ([1], TARGET, "{tuned}: expected a mapping"),
        (TUNED, {**TARGET, "hyperparameters": {"lr": 0.1}}, "{target}: hyperparameters: are the "),
        (TUNED, {**TARGET, "scaling": {"base_width": 64}}, "{target}: scaling.base_width: is the"),
        (TUNED, {**TARGET, "model": {"width": 100}}, "{target}: model: width 100 is not a multip"),
        (TUNED, {**TARGET, "modle": {}}, "{target}: modle: unknown key"),
        (
            TUNED,
            {**TARGET, "train": {"batch_size": 64, "tokens": 65_536}},
            "{target}: hyperparameters.beta1: of embedding, the linear rule turns 0.9 into -0.6",
        ),
    ],
)
def test_a_wrong_file_is_told_in_one_line(command, tmp_path, tuned_file, target, problem):
    code, _, error = command(tuned_file, target)
    where = {"tuned": tmp_path / "tuned.yaml", "target": tmp_path / "target.yaml"}
    assert code == 2
    assert error.startswith(f"error: {problem.format(**where)}"), error
    assert error.count("\n") == 1


def test_a_target_outside_the_linear_rule_says_the_way_out(command):
    outside = {**TARGET, "train": {"batch_size": 64, "tokens": 65_536}}
    _, _, error = command(TUNED, outside)
    assert "or scaling.beta_rule: exponential" in error
    code, _, _ = command(TUNED, {**outside, "scaling": {"beta_rule": "exponential"}})
    assert code == 0


def test_a_missing_file_is_named(capsys):
    assert transfer.main(["--from", "none.yaml", "--to", str(Path("other.yaml"))]) == 2
    assert capsys.readouterr().err.startswith("error: none.yaml: cannot be read")


MODELS = """
from paper_repro.config import ModelConfig
from paper_repro.model import GPT

def gpt(width, depth):
    return GPT(ModelConfig(width=width, depth=depth, head_dim=16), 32, 16)

def deep(width, depth):
    return gpt(width, depth + 1)

def nothing(width, depth):
    return [width, depth]
"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A module of one's own, `my_models`."""
    (tmp_path / "my_models.py").write_text(MODELS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_models", None)


def test_a_model_of_ones_own_has_the_numbers_of_every_parameter(command, models):
    """Those of a run of our GPT, with the multipliers of its branches absorbed."""
    own = ("--model", "my_models:gpt", "--mapping", "paper_repro")
    code, out, _ = command(TUNED, TARGET, *own, "--format", "json")
    content = json.loads(out)
    expected = json.loads(command(TUNED, TARGET, "--json")[1])
    assert code == 0
    assert (content["steps"], content["iterations"]) == (512, 4)
    query = expected["module_types"]["query"]["3"]
    found = content["parameters"]["blocks.3.query.weight"]
    assert found == {key: pytest.approx(query[key]) for key in found}
    residual = expected["multipliers"]["residual"]["mlp_out"][3]
    ends, absorbed = (
        expected["module_types"]["mlp_out"]["3"],
        content["parameters"]["blocks.3.mlp_out.weight"],
    )
    for key, power in {"lr": 1, "init_std": 1, "eps": -1, "weight_decay": -1, "beta1": 0}.items():
        assert absorbed[key] == pytest.approx(ends[key] * residual**power), key
    for name, numbers in content["parameters"].items():
        (group,) = [each for each in content["groups"] if re.search(each["pattern"], name)]
        assert group["lr"] == numbers["lr"]
        assert numbers["init_std"] or numbers["init"] == 1.0
    code, out, _ = command(TUNED, TARGET, *own)
    assert code == 0
    assert "optimiser groups" in out


def test_the_formats_are_those_of_the_exports():
    assert ("table", "json", *TRAINERS) == transfer.FORMATS


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_form_of_a_trainer_is_printed_and_written(command, models, tmp_path, trainer):
    flat = {**TUNED, "hyperparameters": {"lr": 0.02}}
    swiglu = {**TARGET, "model": {**TARGET["model"], "mlp": "swiglu"}}
    own = {**TARGET, "model": {**TARGET["model"], "factory": "my_models:gpt"}}
    output = tmp_path / "groups.txt"
    arguments = ("--format", trainer, "--output", str(output))
    code, out, error = command(flat, swiglu, *arguments)
    assert code == 0
    assert out == output.read_text(encoding="utf-8")
    assert r"layers\.\d+\." in out
    assert error.startswith("warning: automodel: has one ε") == (trainer == "automodel")
    code, out, _ = command(flat, own, *arguments, "--mapping", "paper_repro")
    assert code == 0
    assert r"blocks\.\d+\." in out


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("my_models:absent", "my_models:absent: module 'my_models' has no attribute"),
        ("my_models:deep", "my_models:deep(128, 7): its depth is 1.6 times that of the base (4)"),
        (
            "my_models:nothing",
            "my_models:nothing(128, 7): returned list, expected a torch.nn.Modul",
        ),
    ],
)
def test_a_wrong_model_is_told_in_one_line(command, models, model, problem):
    code, _, error = command(TUNED, TARGET, "--model", model, "--mapping", "paper_repro")
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith(f"error: {problem}")


def test_what_a_trainer_cannot_say_is_told_in_one_line(command):
    code, out, error = command(TUNED, TARGET, "--format", "torchtitan")
    assert (code, out) == (2, "")
    assert error == (
        "error: torchtitan: its models have mlp_gate, this one does not (see model.mlp)\n"
    )
