"""The rules on models of Hugging Face's transformers, built from small configurations.

Needs the extra `peers`; skipped without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from paper_repro.apply import Parameterized, label_parameters, parameterize
from paper_repro.apply.factory import logits_of
from paper_repro.apply.mapping import family
from paper_repro.coordinate_check import check_model
from paper_repro.parameterization import BRANCHES

transformers = pytest.importorskip("transformers", reason="needs the extra peers: transformers")

VOCABULARY, CONTEXT, HEAD = 256, 128, 16


def llama(width: int, depth: int, kind: str = "Llama", **settings: object) -> nn.Module:
    """With half as many heads of keys and values as of queries."""
    heads = width // HEAD
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        head_dim=HEAD,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        **settings,
    )
    made: nn.Module = getattr(transformers, f"{kind}ForCausalLM")(config)
    return made


def qwen3(width: int, depth: int) -> nn.Module:
    return llama(width, depth, "Qwen3")


def gpt2(width: int, depth: int, tied: bool = False) -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=width,
        n_layer=depth,
        n_head=width // HEAD,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=0,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    )
    return transformers.GPT2LMHeadModel(config)  # type: ignore[no-any-return]


def tied_gpt2(width: int, depth: int) -> nn.Module:
    return gpt2(width, depth, tied=True)


MODELS = {"llama": llama, "qwen3": qwen3, "gpt2": gpt2}
Factory = Callable[[int, int], nn.Module]


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_a_label_of_the_family(name):
    with torch.device("meta"):
        model = MODELS[name](64, 3)
    labels = label_parameters(model, family(name))
    assert set(labels) == {each for each, _ in model.named_parameters()}
    types = Counter(each.label.block for each in labels.values())
    assert set(types) == {None, 0, 1, 2}
    assert types[0] == types[1] == types[2]
    assert ("query_norm" in {each.label.module_type for each in labels.values()}) == (
        name == "qwen3"
    )


def test_fewer_heads_of_keys_and_values_and_another_mlp_ratio_have_their_own_fan_in():
    with torch.device("meta"):
        base, target = llama(32, 2), llama(128, 2)
        target.model.layers[0].mlp.down_proj = nn.Linear(4 * 128, 128, bias=False)
    found = parameterize(target, base, "llama")
    assert found.scaling.ratios.N == 4
    rates = {name: numbers.lr for name, numbers in found.numbers.items()}
    full = rates["model.layers.0.self_attn.o_proj.weight"]
    assert full == pytest.approx(2**-6 / 4)
    assert rates["model.layers.0.self_attn.k_proj.weight"] == pytest.approx(full)
    assert rates["model.layers.1.mlp.down_proj.weight"] == pytest.approx(full)
    grown = rates["model.layers.0.mlp.down_proj.weight"]
    assert grown == pytest.approx(2**-6 / (512 / 96))


def in_float64(model: nn.Module) -> nn.Module:
    """The model in float64 throughout: Llama's own norms compute in float32."""
    for path, module in list(model.named_modules()):
        if type(module).__name__ == "LlamaRMSNorm":
            norm = nn.RMSNorm(module.weight.shape, eps=1e-6)
            model.set_submodule(path, norm)
    return model.double()


def multiply(model: nn.Module, rules: Parameterized, mapping: str, tied: bool) -> None:
    """The multipliers of the explicit form, in the forward pass."""

    def times(factor: float) -> Callable[[object, object, Tensor], Tensor]:
        return lambda _module, _inputs, output: factor * output

    modules = dict(model.named_modules())
    for name, each in label_parameters(model, family(mapping)).items():
        module, _, kind = name.rpartition(".")
        if kind == "weight" and each.types[0] in BRANCHES and each.label.block is not None:
            factor = rules.residual_multipliers[each.label.block][BRANCHES.index(each.types[0])]
            modules[module].register_forward_hook(times(factor))
        last = "final_norm" if tied else "unembedding"
        if kind == "weight" and each.types[0] == last:
            modules[module].register_forward_hook(times(rules.logits_multiplier))


@pytest.mark.parametrize(
    ("factory", "mapping", "tied"), [(llama, "llama", False), (tied_gpt2, "gpt2", True)]
)
def test_the_absorbed_form_is_the_same_trajectory(factory: Factory, mapping: str, tied: bool):
    """In float64, over 50 steps, with CompleteP's multiplier of the logits and a depth ratio."""
    torch.manual_seed(0)
    rules = {"parameterization": "completep", "alpha": 1.0, "tied": tied}
    tokens = torch.randint(0, VOCABULARY, (4, 17))
    trajectories = []
    for form in ("explicit", "absorbed"):
        model = in_float64(factory(48, 4))
        made = parameterize(model, factory(16, 2), mapping, form=form, **rules)
        made.initialise(seed=0)
        if form == "explicit":
            multiply(model, made, mapping, tied)
            assert made.logits_multiplier == pytest.approx(1 / 3)
            assert made.residual_multipliers[0] == [0.5, 0.5]
        optimizer = torch.optim.AdamW(
            [group | {"lr": 0.2 * group["lr"]} for group in made.param_groups()]
        )
        losses = []
        for _ in range(50):
            logits = logits_of(model, tokens[:, :-1])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        trajectories.append(losses)
    explicit, absorbed = trajectories
    assert explicit[-1] < explicit[0] - 0.5
    assert absorbed == pytest.approx(explicit, rel=0, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["width", "depth"])
@pytest.mark.parametrize("name", MODELS)
def test_coordinate_checks_pass_under_the_rules_and_fail_without(name, axis):
    sizes = (32, 64, 128) if axis == "width" else (2, 4, 8)
    rules = {"sizes": sizes, "seeds": (0, 1, 2)}
    passed = check_model(MODELS[name], name, axis, parameterization="complete_d", **rules)
    failing = [verdict for verdict in passed.verdicts if not verdict.passed]
    assert not failing
    assert not check_model(MODELS[name], name, axis, parameterization="sp", **rules).passed
