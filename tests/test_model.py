"""The model: shapes, labels, causality, initialisation, multipliers."""

import math

import pytest
import torch
from support.models import adamw, initialised
from support.runs import small_config

from paper_repro.config import ModelConfig
from paper_repro.cost import parameters
from paper_repro.hyperparameters import module_types, parameter_labels
from paper_repro.model.gpt import GPT, rotate, rotation
from paper_repro.model.layers import Norm

VOCABULARY = 50


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(VOCABULARY, (3, 16), generator=generator)


@pytest.mark.parametrize("mlp", ["gelu", "swiglu"])
@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("biases", [True, False])
def test_parameter_count_labels_and_groups(mlp, qk_norm, biases):
    config = small_config(model={"mlp": mlp, "qk_norm": qk_norm, "biases": biases, "depth": 3})
    model = initialised(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == parameters(config.model, VOCABULARY)
    labels = parameter_labels(config.model)
    assert {label.module_type for label in labels.values()} == set(module_types(config.model))
    grouped = [name for group in adamw(model, config).param_groups for name in group["names"]]
    assert sorted(grouped) == sorted(name for name, _ in model.named_parameters())
    assert labels.keys() == dict(model.named_parameters()).keys()
    blocks = {label.block for label in labels.values()}
    assert blocks == {None, 0, 1, 2}


def test_labels():
    labels = parameter_labels(small_config(model={"biases": True}).model)
    assert labels["embedding.weight"].tensor_class == "embedding"
    assert labels["blocks.1.mlp_in.weight"].tensor_class == "hidden_weight"
    assert labels["blocks.1.mlp_in.bias"].tensor_class == "hidden_bias"
    assert labels["blocks.1.mlp_in.bias"].block == 1
    assert labels["blocks.0.key_norm.weight"].tensor_class == "qk_norm"
    assert labels["final_norm.weight"].tensor_class == "final_norm"
    assert labels["unembedding.weight"].tensor_class == "unembedding"


def test_an_unlabelled_parameter_is_an_error():
    config = small_config()
    model = initialised(config)
    model.router = torch.nn.Linear(3, 3)
    with pytest.raises(ValueError, match=r"without labels: router\.bias, router\.weight"):
        adamw(model, config)
    del model.router, model.blocks[1].query
    with pytest.raises(ValueError, match=r"does not have: blocks\.1\.query\.weight"):
        adamw(model, config)


def test_loss_at_the_start_is_log_of_the_vocabulary(tokens):
    for width in (16, 64):
        config = small_config(model={"width": width})
        cross_entropy, z_loss = initialised(config).loss(tokens)
        assert cross_entropy.item() == pytest.approx(math.log(VOCABULARY), abs=0.05)
        assert z_loss.item() == pytest.approx(math.log(VOCABULARY) ** 2, rel=0.05)


def test_loss_equals_its_definition(tokens):
    model = initialised(small_config())
    log_probability = model(tokens[:, :-1]).log_softmax(-1)
    expected = -log_probability.gather(-1, tokens[:, 1:, None]).mean()
    assert model.loss(tokens)[0].item() == pytest.approx(expected.item(), rel=1e-6)


def test_causality(tokens):
    model = initialised(small_config())
    changed = tokens.clone()
    changed[:, 9] = (changed[:, 9] + 1) % VOCABULARY
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :9], after[:, :9], rtol=0, atol=0)
    assert not torch.allclose(before[:, 9:], after[:, 9:])


def test_attention_sees_the_past(tokens):
    model = initialised(small_config())
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % VOCABULARY
    assert not torch.equal(model(tokens)[:, -1], model(changed)[:, -1])


def test_rotary_positions_are_relative():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=generator)
    table = rotation(40, 1, 8)

    def score(i, j):
        rotated_q = rotate(q, table[:, i : i + 1])
        return (rotated_q * rotate(k, table[:, j : j + 1])).sum().item()

    assert score(7, 3) == pytest.approx(score(29, 25), abs=1e-5)
    assert abs(score(7, 3) - score(7, 5)) > 1e-3
    assert rotate(q, table[:, 5:6]).norm().item() == pytest.approx(q.norm().item(), rel=1e-6)


def test_norm_is_rms_norm():
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    norm = Norm(8)
    with torch.no_grad():
        norm.weight.fill_(3.0)
    rms = norm(x).detach().square().mean(-1).sqrt()
    assert rms.tolist() == pytest.approx([3.0] * 4, rel=1e-4)


def test_initial_standard_deviations_follow_the_rules():
    config = small_config(model={"width": 256}, scaling={"base_width": 64})
    model = initialised(config, vocab_size=256)
    stds = {name: p.std().item() for name, p in model.named_parameters() if p.ndim == 2}
    base = config.hyperparameters.init_std
    assert stds["embedding.weight"] == pytest.approx(base.embedding, rel=0.02)
    assert stds["blocks.0.mlp_out.weight"] == pytest.approx(base.hidden_weight / 2, rel=0.02)
    assert stds["unembedding.weight"] == pytest.approx(base.unembedding / 4, rel=0.02)
    gains = [p for p in model.parameters() if p.ndim == 1]
    assert all((gain == 1).all() for gain in gains)


def test_seeds_draw_different_weights_and_parameters_have_their_own_streams():
    first, again = initialised(small_config(seed=1)), initialised(small_config(seed=1))
    other = initialised(small_config(seed=2))
    assert torch.equal(first.embedding.weight, again.embedding.weight)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
    assert not torch.equal(first.blocks[0].query.weight, first.blocks[0].key.weight)
    assert not torch.equal(first.blocks[0].query.weight, first.blocks[1].query.weight)


def test_residual_multipliers_scale_the_branches(tokens):
    """With vanishing multipliers the model is its embedding, norm and unembedding alone."""
    config = small_config(hyperparameters={"residual": 1e-30})
    model = initialised(config)
    shallow = model.unembedding(model.final_norm(model.embedding(tokens)))
    torch.testing.assert_close(model(tokens), shallow)
    assert not torch.allclose(initialised(small_config())(tokens), shallow)


def test_logits_multiplier_applies_in_every_path(tokens):
    config = small_config(model={"width": 64}, scaling={"parameterization": "completep"})
    model = initialised(config)
    hidden = []
    model.final_norm.register_forward_hook(lambda _m, _i, output: hidden.append(output))
    logits = model(tokens)
    torch.testing.assert_close(logits, model.unembedding(hidden[0]) / 4)


@pytest.mark.parametrize("module_type", ["query_norm", "key_norm"])
def test_queries_and_keys_have_gains_of_their_own(module_type, tokens):
    model = initialised(small_config())
    before = model(tokens)
    with torch.no_grad():
        getattr(model.blocks[0], module_type).weight[0] = 5.0
    both = model(tokens)
    assert not torch.allclose(before, both)
    with torch.no_grad():
        for name in ("query_norm", "key_norm"):
            getattr(model.blocks[0], name).weight[0] = 5.0
    assert not torch.allclose(model(tokens), both)


def test_groups_hold_the_numbers_of_their_parameters():
    """m_N = 4, m_L = 2, m_B = 2, m_D = 8 (so √(m_B/m_D) = 1/2, κ = 1/4), worked out by hand."""
    config = small_config(
        model={"width": 64, "depth": 4},
        train={"batch_size": 8, "tokens": 8 * 12 * 64},
        hyperparameters={"lr": 0.8, "eps": 1e-3, "weight_decay": 0.6, "beta1": 0.2, "beta2": 0.6},
    )
    groups = {g["tensor_class"]: g for g in adamw(initialised(config), config).param_groups}
    keys = ("lr", "peak_lr", "eps", "weight_decay")
    hidden = [groups["hidden_weight"][key] for key in keys]
    assert hidden == pytest.approx([0.1, 0.1, 1e-3 / 4, 1.2])
    unembedding = [groups["unembedding"][key] for key in keys]
    assert unembedding == pytest.approx([0.1, 0.1, 2e-3, 1.2])
    for group in groups.values():
        assert group["betas"] == pytest.approx((0.8, 0.9))


def test_qk_gains_are_shared_by_the_heads():
    model = GPT(ModelConfig(width=64, head_dim=8), VOCABULARY, 16)
    assert model.blocks[0].query_norm.weight.shape == (8,)
