"""Parameter groups as trainers read them: what each text says of every parameter of a model."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from paper_repro.apply import FAMILIES, Parameterized, export, label_parameters, parameterize
from paper_repro.apply.names import AUTOMODEL, MEGATRON, TORCHTITAN
from paper_repro.apply.patterns import named_parameters, optimiser_groups
from paper_repro.config import HyperparameterConfig, ModelConfig
from paper_repro.errors import ConfigError
from paper_repro.model import GPT
from paper_repro.parameterization import MODULES

TUNED = HyperparameterConfig.model_validate(
    {
        "lr": 0.01,
        "residual": 0.5,
        "module_multipliers": {"attention_out": {"lr": 2.0}, "embedding": {"weight_decay": 0.0}},
    }
)
BY_BLOCK = TUNED.model_copy(update={"depth_multipliers": {"lr": [1.0, 0.5]}})
BY_BETA = HyperparameterConfig(module_multipliers={"query": {"one_minus_beta2": 0.5}})
BY_QUERY = HyperparameterConfig(module_multipliers={"query": {"lr": 3.0}})

QUANTITIES = ("lr", "weight_decay", "beta1", "beta2", "eps")
Numbers = dict[str, dict[str, float]]


def rules_of(tuned: HyperparameterConfig = TUNED, **model: object) -> Parameterized:
    """Our GPT with a gated MLP, twice as deep and four times as wide as its base."""

    def gpt(width: int, depth: int) -> GPT:
        shape = {"width": width, "depth": depth, "mlp": "swiglu", **model}
        with torch.device("meta"):
            return GPT(ModelConfig.model_validate(shape), 32, 16)

    rules = {"batch_ratio": 2.0, "token_ratio": 4.0}
    return parameterize(gpt(64, 4), gpt(16, 2), FAMILIES["paper_repro"], tuned, **rules)


def numbers_of(rules: Parameterized) -> Numbers:
    return {
        name: {quantity: getattr(numbers, quantity) for quantity in QUANTITIES}
        for name, numbers in rules.numbers.items()
    }


def only(text: str) -> str:
    """The text without its imports, which name a trainer's packages."""
    return re.sub(r"^from .*$", "", text, flags=re.MULTILINE)


def read_torchtitan(text: str, names: list[str]) -> Numbers:
    """Its `_build_param_groups`: the first pattern found in a name; each has to find some."""
    scope: dict[str, Any] = {
        "OptimizersContainer": SimpleNamespace(Config=lambda param_groups: param_groups),
        "ParamGroupConfig": SimpleNamespace,
    }
    exec(only(text), scope)
    found: Numbers = {}
    for group in scope["optimizer"]:
        assert group.optimizer_name == "AdamW"
        torch.optim.AdamW([nn.Parameter(torch.zeros(1))], **group.optimizer_kwargs)
        matched = [name for name in names if name not in found and re.search(group.pattern, name)]
        assert matched, group.pattern
        numbers = dict(group.optimizer_kwargs)
        numbers["beta1"], numbers["beta2"] = numbers.pop("betas")
        found |= dict.fromkeys(matched, numbers)
    return found


def read_automodel(text: str, names: list[str]) -> Numbers:
    """Its `_build_param_groups` and scheduler: multipliers on what all groups have."""
    content = yaml.safe_load(text)["optimizer"]
    overrides = content.pop("param_group_overrides")
    assert content.pop("_target_") == "torch.optim.AdamW"
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))], **content)
    assert {key for each in overrides for key in each} == {"pattern", "lr_mult", "wd_mult"}
    found: Numbers = {}
    for name in names:
        first = next(each for each in overrides if re.search(each["pattern"], name))
        found[name] = {
            "lr": content["lr"] * first["lr_mult"],
            "weight_decay": content["weight_decay"] * first["wd_mult"],
            "beta1": content["betas"][0],
            "beta2": content["betas"][1],
            "eps": content["eps"],
        }
    return found


def read_megatron(text: str, names: list[str]) -> Numbers:
    """Its `_get_param_groups`: all keys that match, merged; two that differ are its error."""
    scope: dict[str, Any] = {
        "ParamKey": lambda with_name_predicate: with_name_predicate,
        "ParamWithNamePredicate": lambda name, fn: fn,
    }
    exec(only(text), scope)
    overrides = [dict(each) for each in scope["config_overrides"].values()]
    for each in overrides:
        del each["eps"]  # its checkpoints know groups by the other keys
    assert len({tuple(each.items()) for each in overrides}) == len(overrides)
    betas = re.search(r"--adam-beta1 (\S+) --adam-beta2 (\S+)", text)
    assert betas
    found: Numbers = {}
    for name in names:
        (override,) = [
            each for matches, each in scope["config_overrides"].items() if matches(None, name)
        ]
        assert override["start_wd"] == override["end_wd"]
        assert override["min_lr"] == pytest.approx(0.1 * override["max_lr"])
        found[name] = {
            "lr": override["max_lr"],
            "weight_decay": override["end_wd"] * override["wd_mult"],
            "beta1": float(betas[1]),
            "beta2": float(betas[2]),
            "eps": override["eps"],
        }
    return found


READERS = {"torchtitan": read_torchtitan, "automodel": read_automodel, "megatron": read_megatron}
NAMES = {"torchtitan": TORCHTITAN, "automodel": AUTOMODEL, "megatron": MEGATRON}


def same(found: Numbers, expected: Numbers, but: str = "") -> None:
    assert found.keys() == expected.keys()
    for name, numbers in expected.items():
        for quantity in set(QUANTITIES) - {but}:
            assert found[name][quantity] == pytest.approx(numbers[quantity], rel=1e-12), name


@pytest.mark.parametrize("tuned", [TUNED, BY_BLOCK])
@pytest.mark.parametrize("trainer", READERS)
def test_a_trainer_reads_the_numbers_of_every_parameter(trainer, tuned):
    rules = rules_of(tuned, biases=True)
    made = export(rules, trainer, final_fraction=0.1)
    found = READERS[trainer](made.text, list(rules.numbers))
    one_eps = "eps" if trainer == "automodel" else ""
    same(found, numbers_of(rules), but=one_eps)
    smallest = min(numbers.eps for numbers in rules.numbers.values())
    if one_eps:
        assert {numbers["eps"] for numbers in found.values()} == {smallest}
        assert "one ε for all parameters, these have 1.77e-09 to 1.41e-08" in made.warnings[0]
    else:
        assert made.warnings == ()


@pytest.mark.parametrize("tuned", [TUNED, BY_BLOCK])
@pytest.mark.parametrize("trainer", READERS)
def test_our_gpt_has_the_names_of_a_trainer(trainer, tuned):
    """Every name of its table, in every block, with the numbers of its module type."""
    rules = rules_of(tuned)
    text = export(rules, trainer, own_names=False, final_fraction=0.1).text
    expected: Numbers = {}
    for name, types in NAMES[trainer].items():
        for block in range(4 if "*" in name else 1):
            inside = f"blocks.{block}." if "*" in name else ""
            ours = rules.numbers[f"{inside}{types[0]}.weight"]
            expected[name.replace("*", str(block))] = vars(ours)
    found = READERS[trainer](text, list(expected))
    same(found, expected, but="eps" if trainer == "automodel" else "")


def test_patterns_match_names_with_the_prefixes_of_wrappers_and_no_others():
    groups = optimiser_groups(named_parameters(rules_of(BY_BLOCK)))

    def matches(name: str) -> list[tuple[str, ...]]:
        return [group.types for group in groups if re.search(group.pattern, name)]

    for name in (
        "blocks.3.mlp_out.weight",
        "module.module.blocks.3.mlp_out.weight",
        "_orig_mod.blocks.3._checkpoint_wrapped_module.mlp_out.weight",
        "_fsdp_wrapped_module.blocks.3._fsdp_wrapped_module.mlp_out.weight",
    ):
        assert matches(name) == [("mlp_out",)], name
    for name in (
        "blocks.4.mlp_out.weight",  # there are four
        "blocks.3.mlp_out.weights",
        "tower.blocks.3.mlp_out.weight",
        "blocks.3.adapter.mlp_out.weight",
    ):
        assert matches(name) == [], name


def test_matrices_that_a_trainer_fuses_need_equal_numbers():
    """torchtitan has them one by one too, so there the fused name is left out."""
    rules = rules_of(BY_QUERY)
    with pytest.raises(ConfigError, match=r"megatron: .*linear_qkv\.weight: holds query and key"):
        export(rules, "megatron", own_names=False)
    text = export(rules, "torchtitan", own_names=False).text
    assert "wqkv" not in text
    assert r"wk\.weight|" in text
    assert "wqkv" in export(rules_of(), "torchtitan", own_names=False).text


@pytest.mark.parametrize("trainer", ["automodel", "megatron"])
def test_betas_of_their_own_are_refused_where_there_is_one_pair(trainer):
    with pytest.raises(ConfigError, match=f"{trainer}: has one beta2 for all parameters, these ha"):
        export(rules_of(BY_BETA), trainer)
    export(rules_of(BY_BETA), "torchtitan")


def test_what_a_trainer_has_no_model_for_is_refused():
    plain = rules_of(mlp="gelu")
    for trainer in ("torchtitan", "automodel"):
        with pytest.raises(ConfigError, match=f"{trainer}: its models have mlp_gate, this one doe"):
            export(plain, trainer, own_names=False)
    assert "linear_fc1" in export(plain, "megatron", own_names=False).text
    gpt = rules_of().model
    explicit = parameterize(gpt, gpt, "paper_repro", TUNED, form="explicit")
    with pytest.raises(ConfigError, match="torchtitan: has no multipliers in its forward pass"):
        export(explicit, "torchtitan")


def test_initial_weights_are_told():
    rules = rules_of()
    for trainer in READERS:
        lines = export(rules, trainer).text.split("draw itself:\n")[1].splitlines()
        stated: dict[str, float] = {}
        for line in lines:
            match = re.fullmatch(r"#   (normal, std|constant) (\S+): (\S+)", line)
            assert match, line
            names = [name for name in rules.numbers if re.search(match[3], name)]
            assert not stated.keys() & set(names)
            stated |= dict.fromkeys(names, float(match[2]))
        assert stated == {
            name: numbers.init_std or rules.gains[name] for name, numbers in rules.numbers.items()
        }


def test_a_model_of_torchtitan_has_labels_by_its_own_names():
    model = nn.Module()
    for name, types in TORCHTITAN.items():
        for block in ("0", "1") if "*" in name else ("",):
            *path, kind = name.replace("*", block).split(".")
            place = model
            for part in path:
                if not hasattr(place, part):
                    place.add_module(part, nn.Module())
                place = getattr(place, part)
            shape = (8, 8) if MODULES[types[0]].drawn else (8,)
            place.register_parameter(kind, nn.Parameter(torch.zeros(shape)))
    labelled = label_parameters(model, FAMILIES["torchtitan"])
    assert {each.place: each.types for each in labelled.values()} == TORCHTITAN
    assert {each.label.block for each in labelled.values()} == {None, 0, 1}


def test_the_docs_name_the_revision_of_each_trainer():
    page = (Path(__file__).parent.parent / "docs/exports.md").read_text(encoding="utf-8")
    for trainer in READERS:
        title = export(rules_of(), trainer).text.splitlines()[0]
        match = re.fullmatch(
            rf"# complete_d: m_N = 4, m_L = 2, m_B = 2, m_D = 4, α = 1; for {trainer} as of (\w+)",
            title,
        )
        assert match, title
        assert f"`{match[1]}`" in page
