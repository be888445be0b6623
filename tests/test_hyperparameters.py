"""Base value × module-type multiplier × depth multiplier × rule, and the errors on the way."""

import pytest

from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.hyperparameters import (
    check,
    interpolate,
    resolve,
    resolve_parameter,
)
from paper_repro.parameterization import SDE_RULE, Label


def config(**sections) -> RunConfig:
    return RunConfig.model_validate(sections)


def test_defaults_at_the_base_are_the_base_values():
    resolved = resolve_parameter(config(), Label("hidden_weight", "query", 0))
    base = config().hyperparameters
    assert (resolved.lr, resolved.eps, resolved.weight_decay) == (base.lr, base.eps, 0.1)
    assert (resolved.beta1, resolved.beta2) == (base.beta1, base.beta2)
    assert resolved.init_std == base.init_std.hidden_weight


def test_everything_multiplies():
    run = config(
        model={"width": 256, "depth": 3},
        scaling={"base_depth": 1, "alpha": 0.5},
        hyperparameters={
            "lr": 0.01,
            "module_multipliers": {"query": {"lr": 3.0, "init_std": 5.0, "one_minus_beta2": 2.0}},
            "depth_multipliers": {"lr": [1.0, 2.0], "residual": [1.0, 4.0]},
        },
    )
    query = resolve_parameter(run, Label("hidden_weight", "query", 1))
    # rule m_N⁻¹ m_L^-½ with m_N = 4, m_L = 3; the middle block's depth multiplier is 1.5
    assert query.lr == pytest.approx(0.01 * 3 * 1.5 / 4 / 3**0.5)
    assert query.init_std == pytest.approx(0.125 * 5 / 2)
    assert query.beta2 == pytest.approx(1 - 2 * 0.05)
    key = resolve_parameter(run, Label("hidden_weight", "key", 1))
    assert key.lr == pytest.approx(query.lr / 3)
    assert key.beta2 == 0.95
    embedding = resolve_parameter(run, Label("embedding", "embedding"))
    assert embedding.lr == 0.01
    assert resolve(run).residual_multipliers[2][1] == pytest.approx(4 / 3**0.5)
    assert resolve(run).logits_multiplier == 1


def test_completep_multiplies_the_logits():
    run = config(model={"width": 256}, scaling={"parameterization": "completep"})
    assert resolve(run).logits_multiplier == 0.25


def test_residual_multiplier_of_one_branch():
    multipliers = {"attention_out": {"residual": 0.5}}
    run = config(hyperparameters={"residual": 2.0, "module_multipliers": multipliers})
    assert resolve(run).residual_multipliers[0][0] == 1.0
    assert resolve(run).residual_multipliers[0][1] == 2.0


def test_layer_multipliers_multiply_those_of_type_and_depth():
    hyperparameters = {
        "module_multipliers": {"query": {"lr": 3.0}},
        "depth_multipliers": {"lr": [1.0, 2.0]},
        "layer_multipliers": {"query": {"lr": [5.0, 7.0]}, "mlp_out": {"residual": [1.0, 2.0]}},
    }
    run = config(model={"depth": 3}, scaling={"base_depth": 3}, hyperparameters=hyperparameters)
    resolved, lr = resolve(run), run.hyperparameters.lr
    rates = [resolved.parameters[f"blocks.{b}.query.weight"].lr / lr for b in range(3)]
    assert rates == pytest.approx([3 * 5, 3 * 1.5 * 6, 3 * 2 * 7])  # linear in relative depth
    assert resolved.parameters["blocks.1.key.weight"].lr == pytest.approx(1.5 * lr)
    assert list(resolved.residual_multipliers) == [(1, 1), (1, 1.5), (1, 2)]


@pytest.mark.parametrize(
    ("curve", "depth", "expected"),
    [
        ([1.0, 3.0], 3, [1, 2, 3]),
        ([1.0, 2.0, 4.0], 3, [1, 2, 4]),
        ([1.0, 2.0, 4.0], 5, [1, 1.5, 2, 3, 4]),
        ([1.0, 2.0, 4.0], 2, [1, 4]),
        ([0.7], 4, [0.7] * 4),
        ([1.0, 2.0], 1, [1]),
    ],
)
def test_depth_multipliers_interpolate_in_relative_depth(curve, depth, expected):
    assert [interpolate(curve, block, depth) for block in range(depth)] == pytest.approx(expected)


def test_linear_beta_rule_that_leaves_the_unit_interval_names_the_limit_and_the_way_out():
    run = config(train={"batch_size": 160})
    with pytest.raises(ConfigError, match=r"beta1.*below 1/\(1 - β\) = 10.*exponential"):
        check(run)
    with pytest.raises(ConfigError, match="beta1"):
        resolve_parameter(run, Label("final_norm", "final_norm"))


def test_just_inside_the_limit_is_fine():
    check(config(train={"batch_size": 159}))


def test_exponential_beta_rule():
    run = config(train={"batch_size": 160}, scaling={"beta_rule": "exponential"})
    check(run)
    resolved = resolve_parameter(run, Label("hidden_weight", "query", 0))
    assert resolved.beta1 == pytest.approx(0.9**10)
    assert resolved.beta2 == pytest.approx(0.95**10)


def test_beta_rules_agree_to_first_order():
    small = {"train": {"tokens": 819_200 * 4, "batch_size": 16 * 5}}
    linear = resolve_parameter(config(**small), Label("embedding", "embedding"))
    exponential = resolve_parameter(
        config(**small, scaling={"beta_rule": "exponential"}), Label("embedding", "embedding")
    )
    assert linear.beta2 == pytest.approx(exponential.beta2, abs=1e-3)
    assert linear.beta2 != exponential.beta2


@pytest.mark.parametrize(
    ("hyperparameters", "key"),
    [
        ({"module_multipliers": {"query": {"one_minus_beta1": 12.0}}}, "beta1"),
        ({"depth_multipliers": {"one_minus_beta2": [1.0, 25.0]}}, "beta2"),
        ({"module_multipliers": {"mlp_gate": {"lr": 2.0}}}, "mlp_gate"),
        ({"module_multipliers": {"query_norm": {"init_std": 2.0}}}, "query_norm.init_std"),
        ({"layer_multipliers": {"query": {"one_minus_beta1": [1.0, 12.0]}}}, "beta1"),
        ({"layer_multipliers": {"mlp_gate": {"lr": [2.0]}}}, "layer_multipliers.mlp_gate"),
        ({"layer_multipliers": {"embedding": {"lr": [2.0]}}}, "embedding: is in no block"),
    ],
)
def test_check_refuses_what_cannot_be_resolved(hyperparameters, key):
    with pytest.raises(ConfigError, match=key):
        check(config(hyperparameters=hyperparameters))


def test_multiplier_of_a_module_that_qk_norm_takes_away():
    hyperparameters = {"module_multipliers": {"key_norm": {"lr": 2.0}}}
    check(config(hyperparameters=hyperparameters))
    with pytest.raises(ConfigError, match="key_norm"):
        check(config(model={"qk_norm": False}, hyperparameters=hyperparameters))


@pytest.mark.parametrize("kept", [[], ["lr"], ["eps", "one_minus_beta1"]])
def test_a_part_of_the_batch_and_token_rule(kept):
    """Quantities left out keep their values; m_B = 1/2, m_D = 2; width and depth rules stay."""
    train = {"batch_size": 8, "tokens": 1_638_400}
    scaling = {"base_batch_size": 16, "base_depth": 1, "alpha": 0.5, "sde_rule": kept}
    resolved = resolve_parameter(
        config(model={"width": 128}, train=train, scaling=scaling),
        Label("hidden_weight", "query", 0),
    )
    base = config().hyperparameters
    assert resolved.lr == pytest.approx(base.lr / 2 / 2**0.5 * (0.5 if "lr" in kept else 1))
    assert resolved.weight_decay == pytest.approx(base.weight_decay * 2)
    assert resolved.eps == pytest.approx(base.eps / 2 / 2**0.5 * (2 if "eps" in kept else 1))
    assert 1 - resolved.beta1 == pytest.approx(0.1 * (0.25 if "one_minus_beta1" in kept else 1))
    assert 1 - resolved.beta2 == pytest.approx(0.05)


def test_the_rule_has_one_spelling_and_one_id():
    one, other = (config(scaling={"sde_rule": names}) for names in (["lr", "eps"], ["eps", "lr"]))
    assert one.run_id == other.run_id != config().run_id
    assert config(scaling={"sde_rule": list(reversed(SDE_RULE))}).run_id == config().run_id


def test_a_rule_that_is_not_there_cannot_be_ablated():
    check(config(scaling={"parameterization": "complete_d", "sde_rule": []}))
    with pytest.raises(ConfigError, match=r"scaling\.sde_rule: mup has no such rule"):
        check(config(scaling={"parameterization": "mup", "sde_rule": ["lr"]}))
