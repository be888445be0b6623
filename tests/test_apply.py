"""The rules on any torch module: our own GPT by patterns, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from paper_repro.apply import FAMILIES, Pattern, label_parameters, parameterize
from paper_repro.apply.mapping import plain_name
from paper_repro.config import HyperparameterConfig, RunConfig
from paper_repro.errors import ConfigError
from paper_repro.hyperparameters import resolve
from paper_repro.model import GPT
from paper_repro.parameterization import ModuleType
from paper_repro.training.single import initialise

OURS = FAMILIES["paper_repro"]
TUNED = HyperparameterConfig.model_validate(
    {
        "lr": 0.01,
        "eps": 1e-6,
        "residual": 0.5,
        "module_multipliers": {"query": {"lr": 2.0}, "mlp_out": {"residual": 0.5, "eps": 3.0}},
        "depth_multipliers": {"lr": [1.0, 0.5], "residual": [1.0, 2.0]},
    }
)


def config(width: int, depth: int, **scaling: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"width": width, "depth": depth, "head_dim": 8, "biases": True},
            "train": {"batch_size": 32, "tokens": 3_276_800},
            "scaling": {"base_width": 16, "base_depth": 2, **scaling},
            "hyperparameters": TUNED,
        }
    )


def gpt(width: int, depth: int, device: str = "meta") -> GPT:
    with torch.device(device):
        return GPT(config(width, depth).model, vocab_size=32, context=16)


@pytest.mark.parametrize("scaling", [{}, {"parameterization": "completep", "alpha": 0.5}])
def test_our_own_gpt_has_the_numbers_of_a_run(scaling):
    """Shapes are read from two models on the meta device, batch and tokens given."""
    expected = resolve(config(64, 6, **scaling))
    found = parameterize(
        gpt(64, 6),
        gpt(16, 2),
        OURS,
        TUNED,
        batch_ratio=2,
        token_ratio=4,
        form="explicit",
        **scaling,
    )
    assert dict(found.labels) == dict(expected.labels)
    assert found.numbers.keys() == expected.parameters.keys()
    for name, numbers in expected.parameters.items():
        assert vars(found.numbers[name]) == pytest.approx(vars(numbers)), name
    assert [tuple(each) for each in found.residual_multipliers] == [
        pytest.approx(each) for each in expected.residual_multipliers
    ]
    assert found.logits_multiplier == expected.logits_multiplier


def trajectory(model: GPT, groups: list[dict], steps: int = 50) -> list[torch.Tensor]:
    """Logits of a fixed batch after every step of AdamW in float64."""
    optimizer = torch.optim.AdamW(groups)
    torch.manual_seed(1)
    tokens = torch.randint(0, 32, (4, 17))
    found = []
    for _ in range(steps):
        loss, _ = model.loss(tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(model(tokens[:, :-1]).detach())
    return found


@pytest.mark.parametrize("parameterization", ["completep", "complete_d"])
def test_the_absorbed_form_is_the_same_trajectory(parameterization):
    """CompleteP has a multiplier of the logits too."""
    scaling = {"parameterization": parameterization}
    run = config(32, 4, **scaling)
    model = gpt(32, 4, "cpu").double()
    initialise(model, resolve(run), seed=3)
    absorbed_model = copy.deepcopy(model)
    rules = {"batch_ratio": 2.0, "token_ratio": 4.0, **scaling}
    gentle = TUNED.model_copy(update={"lr": 0.003})  # or rounding grows from step to step
    explicit = parameterize(model, gpt(16, 2), OURS, gentle, form="explicit", **rules)
    absorbed = parameterize(absorbed_model, gpt(16, 2), OURS, gentle, **rules)
    with torch.no_grad():
        one, other = dict(model.named_parameters()), dict(absorbed_model.named_parameters())
        for name, numbers in absorbed.numbers.items():
            if std := explicit.numbers[name].init_std:
                other[name].copy_(one[name] * (numbers.init_std / std))
        for block in absorbed_model.blocks:
            block.residual_multipliers.fill_(1)
        absorbed_model.logits_multiplier.fill_(1)
    assert set(map(tuple, absorbed.residual_multipliers)) == {(1.0, 1.0)}
    before = trajectory(model, explicit.param_groups())
    after = trajectory(absorbed_model, absorbed.param_groups())
    assert (before[0] - before[-1]).abs().max() > 0.1  # it trains
    for one_step, other_step in zip(before, after, strict=True):
        torch.testing.assert_close(other_step, one_step, rtol=0, atol=1e-9)


def test_initial_weights_have_their_deviations_and_the_same_seed_the_same_weights():
    model = gpt(64, 2, "cpu")
    found = parameterize(model, gpt(16, 2), OURS, TUNED)
    found.initialise(seed=0)
    weights = {name: value.clone() for name, value in model.named_parameters()}
    for name, numbers in found.numbers.items():
        if numbers.init_std:
            assert weights[name].std().item() == pytest.approx(numbers.init_std, rel=0.1)
        else:
            assert (weights[name] == found.gains[name]).all()
    found.initialise(seed=1)
    assert not torch.equal(model.embedding.weight, weights["embedding.weight"])
    found.initialise(seed=0)
    assert all(torch.equal(value, weights[name]) for name, value in model.named_parameters())
    with pytest.raises(ConfigError, match=r"weight: is on the meta device; model\.to_empty"):
        parameterize(gpt(64, 2), gpt(16, 2), OURS, TUNED).initialise(seed=0)


def test_names_are_those_without_wrappers():
    assert plain_name("module._orig_mod.blocks.0.query.weight") == "blocks.0.query.weight"
    assert plain_name("_fsdp_wrapped_module.a._checkpoint_wrapped_module.b.bias") == "a.b.bias"
    assert plain_name("my_module.weight") == "my_module.weight"
    model = gpt(16, 2, "cpu")
    compiled = torch.compile(model)
    labels = label_parameters(compiled, OURS)
    assert set(labels) == {name for name, _ in compiled.named_parameters()}
    assert all(name.startswith("_orig_mod.") for name in labels)
    expected = label_parameters(model, OURS)
    assert {plain_name(name): each for name, each in labels.items()} == expected


class Net(nn.Module):
    """Two blocks with a fused matrix, and what a test adds."""

    def __init__(self, width: int, tied: bool = False, **extra: nn.Module) -> None:
        super().__init__()
        self.wte = nn.Embedding(32, width)
        blocks = [
            nn.ModuleDict(
                {
                    "ln_1": nn.LayerNorm(width),
                    "attn": nn.ModuleDict(
                        {
                            "c_attn": nn.Linear(width, 3 * width),
                            "c_proj": nn.Linear(width, width),
                        }
                    ),
                }
            )
            for _ in range(2)
        ]
        self.h = nn.ModuleList(blocks)
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, 32, bias=False)
        if tied:
            self.lm_head.weight = self.wte.weight
        for name, module in extra.items():
            self.add_module(name, module)


def test_fused_matrices_biases_and_norms_have_labels():
    labels = label_parameters(Net(8), FAMILIES["nanogpt"])
    classes = {name: each.label.tensor_class for name, each in labels.items()}
    assert classes["h.0.attn.c_attn.weight"] == "hidden_weight"
    assert classes["h.0.attn.c_attn.bias"] == classes["h.1.ln_1.bias"] == "hidden_bias"
    assert (classes["ln_f.bias"], classes["h.1.ln_1.weight"]) == ("final_norm", "hidden_norm")
    assert labels["h.1.attn.c_attn.weight"].types == ("query", "key", "value")
    assert labels["h.1.attn.c_attn.weight"].label.block == 1
    found = parameterize(
        Net(32),
        Net(8),
        "nanogpt",
        TUNED.model_copy(
            update={
                "module_multipliers": {name: {"lr": 2.0} for name in ("query", "key", "value")},
                "depth_multipliers": {},
            }
        ),
    )
    assert found.numbers["h.0.attn.c_attn.weight"].lr == pytest.approx(0.01 * 2 / 4)


def test_types_of_one_matrix_cannot_differ():
    with pytest.raises(ConfigError, match=r"h\.0\.attn\.c_attn\.weight: holds query and key and "):
        parameterize(Net(32), Net(8), "nanogpt", TUNED)


def test_a_fan_in_that_grows_by_another_ratio_has_its_own():
    def wide(width: int, hidden: int) -> Net:
        return Net(width, mlp=nn.Linear(hidden, width, bias=False))

    mapping = (*FAMILIES["nanogpt"], Pattern("mlp", ("unembedding",)))  # not in a block
    plain = HyperparameterConfig(lr=0.01)
    found = parameterize(wide(32, 64), wide(8, 32), mapping, plain)
    assert found.scaling.ratios.N == 4
    assert found.numbers["mlp.weight"].lr == pytest.approx(0.01 / 2)
    assert found.numbers["lm_head.weight"].lr == pytest.approx(0.01 / 4)


def test_a_tied_model_needs_to_be_said_and_has_its_multiplier_in_the_final_norm():
    plain = HyperparameterConfig(lr=0.01, eps=1e-6, weight_decay=0.1)
    with pytest.raises(ConfigError, match=r"shared parameters: wte\.weight = lm_head\.weight; "):
        parameterize(Net(32, tied=True), Net(8, tied=True), "nanogpt", plain)
    with pytest.raises(ConfigError, match="tied: no parameter is shared"):
        parameterize(Net(32), Net(8), "nanogpt", plain, tied=True)
    found = parameterize(Net(32, tied=True), Net(8, tied=True), "nanogpt", plain, tied=True)
    norm = found.numbers["ln_f.weight"]
    assert (norm.lr, norm.eps, norm.weight_decay) == pytest.approx((0.01 / 4, 4e-6, 0.4))
    assert (found.gains["ln_f.weight"], found.gains["ln_f.bias"]) == (0.25, 0.0)
    assert found.numbers["wte.weight"].lr == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("extra", "mapping", "problem"),
    [
        ({"gate": nn.Linear(8, 8)}, (), r"match no pattern: gate\.weight, gate\.bias; give"),
        ({}, (Pattern("lm_.*", ("unembedding",)),), r"match several patterns: lm_head\.weight"),
        (
            {"out": nn.Linear(8, 8)},
            (Pattern("out", ("unembedding",)),),
            r"are no weight or bias of unembedding: out\.bias",
        ),
        (
            {"gain": nn.Linear(8, 8, bias=False)},
            (Pattern("gain", ("final_norm",)),),
            r"are no weight or bias of final_norm: gain\.weight",
        ),
    ],
)
def test_parameters_without_one_label_are_listed(extra: dict, mapping: tuple, problem: str):
    with pytest.raises(ConfigError, match=problem):
        label_parameters(Net(8, **extra), (*FAMILIES["nanogpt"], *mapping))


def test_what_the_base_lacks_is_named():
    mapping = (*FAMILIES["nanogpt"], Pattern("head", ("unembedding",)))
    names: tuple[ModuleType, ...] = ("mlp_in",)
    block = (*FAMILIES["nanogpt"], Pattern(r"extra\.(?P<block>\d+)", names))
    with pytest.raises(ConfigError, match=r"extra\.0\.weight: the base has no extra\.\*\.weight"):
        parameterize(
            Net(16, extra=nn.ModuleList([nn.Linear(16, 16), nn.Linear(16, 16)])),
            Net(8),
            block,
            HyperparameterConfig(),
        )
    with pytest.raises(ConfigError, match="mapping: 'gpt5' is none of gpt2, nanogpt"):
        parameterize(Net(8), Net(8), "gpt5")
    assert parameterize(Net(8), Net(8), mapping).scaling.ratios.N == 1
