"""The space of a search: which numbers of a run move, and by how much."""

from __future__ import annotations

import pytest

from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.hyperparameters import resolve
from paper_repro.search import Space, parse_space, tuned

BASE = RunConfig.model_validate({"model": {"depth": 4}, "scaling": {"base_depth": 4}})


def moved(space: Space, **octaves: float) -> RunConfig:
    return space.config(space.point(octaves), seed=0)


def test_the_start_is_the_base_and_keeps_its_id():
    space = parse_space({"hyperparameters.lr": 3, "hyperparameters.beta1": 2}, BASE)
    assert space.config(space.start, seed=0).run_id == BASE.run_id
    assert space.config(space.start, seed=5) == BASE.model_copy(update={"seed": 5})


def test_numbers_move_by_octaves_and_betas_by_one_minus_them():
    paths = ["lr", "weight_decay", "beta1", "beta2", "eps", "init_std.unembedding", "residual"]
    content: dict = {f"hyperparameters.{path}": [-4, 4] for path in paths}
    space = parse_space({**content, "train.final_fraction": [-3, 3]}, BASE)
    config = space.config((1, -1, 1, -2, 3, 2, -1, -1), seed=0)
    found, base = config.hyperparameters, BASE.hyperparameters
    assert found.lr == 2 * base.lr
    assert found.weight_decay == base.weight_decay / 2
    assert found.beta1 == pytest.approx(0.8)
    assert found.beta2 == pytest.approx(0.9875)
    assert found.eps == 8 * base.eps
    assert found.init_std.unembedding == 4 * base.init_std.unembedding
    assert found.init_std.hidden_weight == base.init_std.hidden_weight
    assert found.residual == 0.5
    assert config.train.final_fraction == 0.05


def test_the_papers_per_module_space_has_79_coordinates():
    """13 module types × 5 of AdamW, 8 init scales, 2 residual multipliers, 4 depth multipliers."""
    of_adamw = ["lr", "weight_decay", "eps", "one_minus_beta1", "one_minus_beta2"]
    space = parse_space(
        {
            "hyperparameters.module_multipliers": dict.fromkeys([*of_adamw, "init_std"], 3)
            | {"residual": 2},
            "hyperparameters.depth_multipliers": {"lr": 2},
        },
        BASE,
    )
    paths = [axis.path.removeprefix("hyperparameters.") for axis in space.coordinates]
    assert len(paths) == len(set(paths)) == 79
    assert sum(path.endswith(".lr") for path in paths) == 13
    assert sum(path.endswith(".init_std") for path in paths) == 8
    assert sum(path.endswith(".residual") for path in paths) == 2
    assert [path for path in paths if path.startswith("depth")] == [
        f"depth_multipliers.lr.{block}" for block in range(4)
    ]


def test_module_and_depth_multipliers_multiply():
    space = parse_space(
        {
            "hyperparameters.module_multipliers.query.lr": 3,
            "hyperparameters.depth_multipliers.lr": 2,
        },
        BASE,
    )
    octaves = {
        "hyperparameters.module_multipliers.query.lr": 1.0,
        "hyperparameters.depth_multipliers.lr.2": -2.0,
    }
    config = space.config(space.point(octaves), seed=0)
    lr, parameters = BASE.hyperparameters.lr, resolve(config).parameters
    rates = {name: parameter.lr / lr for name, parameter in parameters.items()}
    assert [rates[f"blocks.{block}.query.weight"] for block in range(4)] == [2, 2, 0.5, 2]
    assert [rates[f"blocks.{block}.key.weight"] for block in range(4)] == [1, 1, 0.25, 1]
    assert rates["embedding.weight"] == 1


def test_multipliers_of_the_base_are_moved_not_replaced():
    base = RunConfig.model_validate(
        {
            "model": {"depth": 2},
            "hyperparameters": {
                "module_multipliers": {"key": {"lr": 3.0, "eps": 5.0}},
                "depth_multipliers": {"lr": [1.0, 0.5]},
            },
        }
    )
    content = {
        "hyperparameters.module_multipliers.key": {"lr": 3},
        "hyperparameters.depth_multipliers": {"lr": 2},
    }
    space = parse_space(content, base)
    found = space.config((1.0, 0.0, 1.0), seed=0).hyperparameters
    assert found.module_multipliers == {"key": {"lr": 6.0, "eps": 5.0}}
    assert found.depth_multipliers == {"lr": [1.0, 1.0]}


def test_layers_may_have_multipliers_of_their_own():
    space = parse_space({"hyperparameters.layer_multipliers": {"lr": 2, "init_std": 1}}, BASE)
    paths = [
        axis.path.removeprefix("hyperparameters.layer_multipliers.") for axis in space.coordinates
    ]
    assert len(paths) == 4 * (10 + 6)  # blocks × (module types in blocks + those that are drawn)
    assert not any(path.startswith(("embedding", "final_norm", "unembedding")) for path in paths)
    octaves = {"hyperparameters.layer_multipliers.query.lr.2": 1.0}
    config = space.config(space.point(octaves), seed=0)
    lr, parameters = BASE.hyperparameters.lr, resolve(config).parameters
    moved = [name for name, numbers in parameters.items() if numbers.lr != lr]
    assert moved == ["blocks.2.query.weight"]
    assert parameters["blocks.2.query.weight"].lr == 2 * lr


ANNEALED = RunConfig.model_validate(
    {
        "train": {
            "schedule": "piecewise",
            "piecewise": {
                "lr": [
                    {"at": 0.1, "factor": 1.0},
                    {"at": 0.5, "factor": 0.5, "shape": "cosine"},
                    {"at": 1.0, "factor": 0.0},
                ]
            },
        }
    }
)


def test_a_course_has_a_coordinate_for_each_point_that_is_not_zero():
    space = parse_space({"train.piecewise.lr": [-6, 1]}, ANNEALED)
    assert [axis.path for axis in space.coordinates] == [
        "train.piecewise.lr.0",
        "train.piecewise.lr.1",
    ]
    found = space.config((0.0, -2.0), seed=0).train.piecewise["lr"]
    assert [point.factor for point in found] == [1.0, 0.125, 0.0]
    assert [point.shape for point in found] == ["linear", "cosine", "linear"]
    assert space.config(space.start, seed=0).run_id == ANNEALED.run_id
    again = RunConfig.model_validate(tuned(space.config((0.0, -2.0), seed=0)))
    assert again.train.piecewise["lr"] == found
    for path in ("train.piecewise", "train.piecewise.weight_decay"):
        with pytest.raises(ConfigError, match=f"{path}: expected a course of the base"):
            parse_space({path: 1}, ANNEALED)


def test_points_are_kept_within_the_ranges():
    space = parse_space({"hyperparameters.lr": [-1, 2], "hyperparameters.eps": 3}, BASE)
    assert space.clip((-5, 9)) == (-1, 3)
    assert space.clip((0.123456, 0.0)) == (0.1235, 0)
    point = space.point({"hyperparameters.eps": 1.5})
    assert point == (0, 1.5)
    assert space.named(point) == {"hyperparameters.eps": 1.5}


def test_coordinates_that_reach_points_without_a_run_are_known():
    content = {"hyperparameters.lr": 9, "hyperparameters.beta1": 3.5, "hyperparameters.beta2": 3.5}
    assert parse_space(content, BASE).ends_without_run() == ["hyperparameters.beta1"]


@pytest.mark.parametrize(
    ("path", "octaves", "problem"),
    [
        ("hyperparameters.beta1", 3.5, "hyperparameters.beta1: "),  # 1 - β1 = 0.1 · 2^3.5 > 1
        ("train.final_fraction", 4.0, "train.final_fraction: "),
    ],
)
def test_a_point_without_a_run_says_which_number_leaves_its_range(path, octaves, problem):
    space = parse_space({path: 5}, BASE)
    with pytest.raises(ConfigError, match=problem):
        space.config((octaves,), seed=0)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({}, "expected at least one coordinate"),
        ({"hyperparameters.learning_rate": 2}, "hyperparameters.learning_rate: expected a number"),
        ({"model.width": 2}, "model.width: expected a number under hyperparameters"),
        ({"train.batch_size": 2}, "train.batch_size: expected"),
        ({"scaling.alpha": 1}, "scaling.alpha: expected"),
        ({"hyperparameters.lr": 0}, "hyperparameters.lr: expected octaves either way"),
        ({"hyperparameters.lr": [1, 2]}, "hyperparameters.lr: expected octaves either way"),
        ({"hyperparameters.lr": [-1, 0, 1]}, "hyperparameters.lr: expected octaves either way"),
        ({"hyperparameters.lr": "3"}, "hyperparameters.lr: expected octaves either way"),
        ({"hyperparameters.lr": True}, "hyperparameters.lr: expected octaves either way"),
        ({"hyperparameters.lr": float("inf")}, "hyperparameters.lr: expected octaves either way"),
        ({"hyperparameters.module_multipliers": 3}, "expected a mapping from quantities"),
        ({"hyperparameters.module_multipliers": {"rate": 3}}, r"quantities among lr, .*'rate'"),
        ({"hyperparameters.module_multipliers.querry.lr": 3}, "expected one of embedding"),
        ({"hyperparameters.module_multipliers.mlp_gate.lr": 3}, r"expected one of .*'mlp_gate'"),
        ({"hyperparameters.module_multipliers.key_norm.init_std": 3}, "key_norm has no init_std"),
        ({"hyperparameters.module_multipliers.query.residual": 3}, "query has no residual"),
        ({"hyperparameters.depth_multipliers": {}}, "expected a mapping from quantities"),
        ({"hyperparameters.layer_multipliers.embedding.lr": 1}, "embedding is in no block"),
        ({"hyperparameters.layers": 1}, "hyperparameters.layers: expected a number under"),
    ],
)
def test_a_wrong_space_is_told_by_its_path(content, problem):
    with pytest.raises(ConfigError, match=problem):
        parse_space(content, BASE)


def test_a_coordinate_is_given_once_and_cannot_start_at_zero():
    twice = {
        "hyperparameters.module_multipliers": {"lr": 3},
        "hyperparameters.module_multipliers.query.lr": 2,
    }
    with pytest.raises(ConfigError, match=r"query\.lr: given twice"):
        parse_space(twice, BASE)
    no_decay = RunConfig.model_validate({"hyperparameters": {"weight_decay": 0.0}})
    with pytest.raises(ConfigError, match="is 0 at the start"):
        parse_space({"hyperparameters.weight_decay": 2}, no_decay)
    other = {"model": {"depth": 4}, "hyperparameters": {"depth_multipliers": {"lr": [1.0, 0.5]}}}
    with pytest.raises(ConfigError, match="expected 4 multipliers in the base, one a block"):
        parse_space({"hyperparameters.depth_multipliers.lr": 2}, RunConfig.model_validate(other))
