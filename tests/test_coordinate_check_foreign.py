"""The coordinate check of a model that is given as a function of its width and depth."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from paper_repro.apply import FAMILIES, Pattern
from paper_repro.apply.factory import find_factory
from paper_repro.config import ModelConfig
from paper_repro.coordinate_check import check_model
from paper_repro.coordinate_check.__main__ import main
from paper_repro.errors import ConfigError
from paper_repro.model import GPT

OURS = FAMILIES["paper_repro"]


def build(width: int, depth: int, vocabulary: int = 256) -> nn.Module:
    return GPT(ModelConfig(width=width, depth=depth, head_dim=8), vocabulary, context=64)


@pytest.mark.parametrize(("axis", "sizes"), [("width", (32, 64, 128)), ("depth", (2, 4, 8))])
def test_the_absorbed_form_passes_as_the_explicit_one_does_and_sp_fails(axis, sizes):
    rules = {"sizes": sizes, "seeds": (0, 1)}
    assert check_model(build, OURS, axis, **rules).passed
    failed = check_model(build, OURS, axis, parameterization="sp", **rules)
    quantities = {each.quantity for each in failed.verdicts if not each.passed}
    assert {"residual", "hidden_weight"} <= quantities


class Scaled(nn.Module):
    """Values × √width, as a multiplier that somebody added and no rule knows of."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.gpt = build(width, depth)
        for name, module in self.gpt.named_modules():
            if name.endswith("value"):
                module.register_forward_hook(lambda _module, _inputs, value: value * width**0.5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.gpt(tokens)
        return logits


def test_a_multiplier_that_no_rule_knows_of_is_seen():
    mapping = [Pattern(rf"gpt\.{each.name}", each.types) for each in OURS]
    report = check_model(Scaled, mapping, "width", sizes=(16, 32, 64), seeds=(0, 1))
    assert "attention" in {each.quantity for each in report.verdicts if not each.passed}


def test_what_cannot_be_checked_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(ConfigError, match="a vocabulary of 64, expected 256 or more"):
        check_model(lambda w, d: build(w, d, 64), OURS, "width", sizes=(16, 32), seeds=(0,))
    with pytest.raises(ConfigError, match="a slope needs two sizes or more"):
        check_model(build, OURS, "width", sizes=(16,))
    (tmp_path / "my_models.py").write_text("number = 3\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name, problem in (
        ("absent.module:build", "No module named 'absent'"),
        ("my_models:build", "has no attribute 'build'"),
        ("my_models:number", "is no function of width and depth"),
        ("my_models", "has no attribute ''"),
    ):
        with pytest.raises(ConfigError, match=problem):
            find_factory(name)
        assert main(["--model", name, "--axis", "width"]) == 2
        assert f"error: --model {name}: " in capsys.readouterr().err
    sys.modules.pop("my_models", None)
