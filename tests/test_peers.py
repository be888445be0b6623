"""Our groups beside those of other packages, on equal shapes. Needs the extra `peers`."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from paper_repro.apply import parameterize
from paper_repro.config import HyperparameterConfig, ModelConfig
from paper_repro.model import GPT
from paper_repro.parameterization import Parameterization

TUNED = HyperparameterConfig(lr=0.01, weight_decay=0.1, eps=1e-8)
BASE_WIDTH, WIDTH = 32, 128

Numbers = Mapping[str, tuple[float, float]]


def gpt(width: int, mlp_ratio: int = 4) -> GPT:
    shape = ModelConfig(
        width=width, depth=2, head_dim=16, mlp="swiglu", mlp_ratio=mlp_ratio, biases=True
    )
    return GPT(shape, vocab_size=50, context=16)


def base() -> GPT:
    """With an MLP half as wide, so that not all fan-ins grow alike."""
    return gpt(BASE_WIDTH, mlp_ratio=2)


def of_mup() -> tuple[Numbers, Numbers, GPT]:
    """Learning rate and decay of MuAdamW, and its ε and betas, by name."""
    mup = pytest.importorskip("mup", reason="needs the extra peers: mup")
    model = gpt(WIDTH)
    delta = gpt(2 * BASE_WIDTH)
    mup.set_base_shapes(model, base(), delta=delta, rescale_params=False, do_assert=False)
    optimizer = mup.MuAdamW(
        model.parameters(),
        lr=TUNED.lr,
        weight_decay=TUNED.weight_decay,
        eps=TUNED.eps,
        betas=(TUNED.beta1, TUNED.beta2),
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates, others = {}, {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            rates[names[id(parameter)]] = (group["lr"], group["weight_decay"])
            others[names[id(parameter)]] = (group["eps"], *group["betas"])
    return rates, others, model


def ours(
    parameterization: Parameterization, form: str = "explicit"
) -> dict[str, tuple[float, ...]]:
    rules = parameterize(
        gpt(WIDTH),
        base(),
        "paper_repro",
        TUNED,
        parameterization=parameterization,
        form=form,  # type: ignore[arg-type]
    )
    return {name: (each.lr, each.weight_decay) for name, each in rules.numbers.items()}


def test_learning_rates_and_decays_are_those_of_mup_but_for_the_unembedding():
    """`mup` has 1/m_N in the forward pass of its readout (Table 8 of arXiv 2203.03466), and η and λ
    of its weight as at the base. We have none there: 1/m_N is in η, and m_N in λ."""
    rates, _, _ = of_mup()
    found = ours("mup")
    assert found.keys() == rates.keys()
    assert len(set(rates.values())) == 3  # fan-ins of the width, of the MLP, and what has neither
    differing = {name for name in rates if found[name] != pytest.approx(rates[name])}
    assert differing == {"unembedding.weight"}
    (lr, decay), m = rates["unembedding.weight"], WIDTH / BASE_WIDTH
    assert (lr, decay) == (TUNED.lr, TUNED.weight_decay)
    assert found["unembedding.weight"] == pytest.approx((lr / m, decay * m))


def test_completep_at_equal_depth_has_the_learning_rates_of_mup():
    """Its logits have the multiplier of mup's readout, and the unembedding mup's rate and decay."""
    rates, _, model = of_mup()
    found = ours("completep")
    assert {name: pytest.approx(each) for name, each in found.items()} == rates
    rules = parameterize(
        model,
        base(),
        "paper_repro",
        TUNED,
        parameterization="completep",
        form="explicit",
    )
    infshape = model.unembedding.weight.infshape
    assert rules.logits_multiplier == pytest.approx(1 / infshape.width_mult())


def test_epsilon_follows_the_width_under_our_rules_and_not_in_mup():
    """mup says nothing of ε: one for all. Ours is that of Table 1 of arXiv 2512.22382."""
    _, others, model = of_mup()
    assert set(others.values()) == {(TUNED.eps, TUNED.beta1, TUNED.beta2)}
    rules = parameterize(
        model, base(), "paper_repro", TUNED, parameterization="mup", form="explicit"
    )
    m = WIDTH / BASE_WIDTH
    classes = {
        label.tensor_class: rules.numbers[name].eps / TUNED.eps
        for name, label in rules.labels.items()
    }
    hidden = ("embedding", "hidden_weight", "hidden_bias", "hidden_norm")
    assert {name: classes[name] for name in hidden} == dict.fromkeys(hidden, pytest.approx(1 / m))
    assert classes["unembedding"] == classes["final_norm"] == pytest.approx(1)


def test_the_decay_of_hugging_faces_trainer_is_ours_with_none_on_norms():
    """Its Trainer decays all but norms and biases; ours does with multipliers of 0 on norms."""
    pytest.importorskip("accelerate", reason="needs the extra peers: accelerate")
    transformers = pytest.importorskip("transformers", reason="needs the extra peers: transformers")

    def llama(width: int) -> nn.Module:
        config = transformers.Qwen3Config(
            vocab_size=64,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            tie_word_embeddings=False,
        )
        with torch.device("meta"):
            model: nn.Module = transformers.Qwen3ForCausalLM(config)
        return model

    norms = ("attention_norm", "mlp_norm", "query_norm", "key_norm", "final_norm")
    tuned = HyperparameterConfig.model_validate(
        {"module_multipliers": {name: {"weight_decay": 0.0} for name in norms}}
    )
    model = llama(64)
    rules = parameterize(model, llama(32), "qwen3", tuned)
    decayed = {name for name, each in rules.numbers.items() if each.weight_decay}
    theirs = transformers.Trainer.get_decay_parameter_names(None, model)
    assert decayed == set(theirs)
