"""Sweep files expand into exactly the runs that they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from sweeps.expand import Sweep, read_sweep
from sweeps.schema import suggestion

SWEEPS = Path(__file__).parent.parent / "sweeps"


@pytest.fixture
def read(tmp_path):
    def read(content: dict, *overrides: str) -> Sweep:
        path = tmp_path / "sweep.yaml"
        path.write_text(
            yaml.safe_dump({"name": "sweep", **content}, sort_keys=False), encoding="utf-8"
        )
        return read_sweep(path, overrides)

    return read


def test_grid_is_every_combination_in_the_order_of_the_file(read):
    sweep = read({"grid": {"model.width": [32, 64], "seed": [0, 1, 2]}})
    points = [(config.model.width, config.seed) for config in sweep.runs.values()]
    assert points == [(w, s) for w in (32, 64) for s in (0, 1, 2)]
    assert list(sweep.runs) == [config.run_id for config in sweep.runs.values()]


def test_what_is_not_varied_comes_from_base_or_has_its_default(read):
    sweep = read({"base": {"model": {"depth": 3}}, "grid": {"model.width": [32]}})
    (config,) = sweep.runs.values()
    assert config == RunConfig.model_validate({"model": {"depth": 3, "width": 32}})


def test_a_list_of_grids_is_all_of_them_each_multiplied_by_zip(read):
    sweep = read(
        {
            "grid": [
                {"scaling.parameterization": ["sp"], "hyperparameters.lr": [0.5, 0.25]},
                {"scaling.parameterization": ["complete_d"], "model.width": [32]},
            ],
            "zip": {"seed": [0, 1]},
        }
    )
    runs = [
        (run.scaling.parameterization, run.hyperparameters.lr, run.model.width, run.seed)
        for run in sweep.runs.values()
    ]
    default = RunConfig()
    lr, width = default.hyperparameters.lr, default.model.width
    assert runs == [
        ("sp", 0.5, width, 0),
        ("sp", 0.5, width, 1),
        ("sp", 0.25, width, 0),
        ("sp", 0.25, width, 1),
        ("complete_d", lr, 32, 0),
        ("complete_d", lr, 32, 1),
    ]


def test_an_axis_of_base_files_puts_each_over_the_base(read, tmp_path):
    tuned = {"hyperparameters": {"lr": 0.5, "init_std": {"embedding": 2.0}}}
    (tmp_path / "tuned.yaml").write_text(yaml.safe_dump(tuned), encoding="utf-8")
    base = {"hyperparameters": {"lr": 0.25, "eps": 1e-6}}
    sweep = read({"base": base, "grid": {"base_file": [None, "tuned.yaml"], "seed": [0, 1]}})
    found = [config.hyperparameters for config in sweep.runs.values()]
    assert [(h.lr, h.eps, h.init_std.embedding) for h in found] == [
        *[(0.25, 1e-6, 1.0)] * 2,
        *[(0.5, 1e-6, 2.0)] * 2,
    ]
    assert [config.seed for config in sweep.runs.values()] == [0, 1, 0, 1]


def test_an_axis_of_base_files_may_have_points_between_them(read, tmp_path):
    for name, rate in (("a", 0.5), ("b", 0.125), ("c", 0.5)):
        text = f"hyperparameters: {{lr: {rate}, eps: {'1e-4' if name == 'c' else '1e-8'}}}"
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    line = {"from": "a.yaml", "to": ["b.yaml"], "at": [[0, 0.5, 1]]}
    sweep = read({"grid": {"base_file": line, "model.width": [32]}})
    rates = [config.hyperparameters.lr for config in sweep.runs.values()]
    assert rates == pytest.approx([0.5, 0.25, 0.125])
    plane = {"from": "a.yaml", "to": ["b.yaml", "c.yaml"], "at": [[0, 1], [0, 0.5]]}
    sweep = read({"grid": {"base_file": plane}})
    points = [(run.hyperparameters.lr, run.hyperparameters.eps) for run in sweep.runs.values()]
    assert points == [
        *[(0.5, pytest.approx(eps)) for eps in (1e-8, 1e-6)],
        *[(0.125, pytest.approx(eps)) for eps in (1e-8, 1e-6)],
    ]


@pytest.mark.parametrize(
    ("values", "written", "problem"),
    [
        (
            {"from": "a.yaml", "to": "b.yaml", "at": [[0]]},
            None,
            r"base_file: expected \{from: file",
        ),
        ({"from": "a.yaml", "to": ["b"], "at": [0]}, None, r"base_file: expected \{from: file"),
        ({"from": "a.yaml", "to": ["b"], "at": [[0], [1]]}, None, r"base_file: expected \{from:"),
        (
            ["tuned.yaml"],
            None,
            r"base_file: .*tuned\.yaml: cannot be read .*; if a command makes it, the head",
        ),
        (
            ["tuned.yaml"],
            "model: {wdith: 3}",
            r"base_file: .*tuned\.yaml: model\.wdith: unknown key",
        ),
        (["tuned.yaml"], "a: [", r"base_file: .*tuned\.yaml, line 2: not valid YAML"),
        ([3], None, r"base_file: expected a list of paths of YAML files"),
        ("tuned.yaml", None, r"base_file: expected a list of paths of YAML files"),
    ],
)
def test_a_wrong_axis_of_base_files_is_told_by_the_file(read, tmp_path, values, written, problem):
    if written:
        (tmp_path / "tuned.yaml").write_text(written, encoding="utf-8")
    with pytest.raises(ConfigError, match=problem):
        read({"grid": {"base_file": values}})


def test_what_a_base_file_of_an_axis_says_cannot_be_set(read, tmp_path):
    (tmp_path / "tuned.yaml").write_text("hyperparameters: {lr: 0.5}", encoding="utf-8")
    grid = {"grid": {"base_file": [None, "tuned.yaml"]}}
    with pytest.raises(ConfigError, match=r"--set hyperparameters\.lr: is varied by the sweep"):
        read(grid, "hyperparameters.lr=0.1")
    assert len(read(grid, "hyperparameters.eps=1e-6").runs) == 2


def test_zip_advances_together_and_multiplies_the_grid(read):
    sweep = read(
        {
            "grid": {"seed": [0, 1]},
            "zip": {"train.batch_size": [8, 32], "train.tokens": [400_000, 800_000]},
        }
    )
    points = {(c.train.batch_size, c.train.tokens, c.seed) for c in sweep.runs.values()}
    assert points == {(8, 400_000, 0), (8, 400_000, 1), (32, 800_000, 0), (32, 800_000, 1)}


def test_several_zips_multiply(read):
    sweep = read(
        {
            "zip": [
                {"model.width": [32, 64], "scaling.base_width": [16, 32]},
                {"model.depth": [2, 4], "scaling.base_depth": [1, 2]},
            ]
        }
    )
    points = {(c.model.width, c.scaling.base_width, c.model.depth) for c in sweep.runs.values()}
    assert points == {(32, 16, 2), (32, 16, 4), (64, 32, 2), (64, 32, 4)}


def test_log2_ranges_include_both_ends(read):
    sweep = read({"grid": {"hyperparameters.lr": {"log2": [-10, -7]}}})
    assert [c.hyperparameters.lr for c in sweep.runs.values()] == [2**-10, 2**-9, 2**-8, 2**-7]
    halves = read({"grid": {"hyperparameters.lr": {"log2": [-1, 0, 0.5]}}})
    assert [c.hyperparameters.lr for c in halves.runs.values()] == [0.5, 2**-0.5, 1.0]


def test_log2_ranges_suit_whole_numbers(read):
    sweep = read({"grid": {"model.width": {"log2": [5, 7]}}})
    assert [c.model.width for c in sweep.runs.values()] == [32, 64, 128]


def test_two_spellings_of_a_value_are_one_run(read):
    """An id is the content's: octaves, decimals and the default give the same run."""
    ids = [
        set(read({"grid": {"hyperparameters.lr": values}}).runs)
        for values in ({"log2": [-6, -6]}, [0.015625], [2**-6])
    ]
    assert ids[0] == ids[1] == ids[2] == {RunConfig().run_id}


def test_axes_reach_into_multipliers(read):
    key = "hyperparameters.module_multipliers.query.lr"
    sweep = read({"grid": {key: [1.0, 2.0]}})
    factors = [c.hyperparameters.module_multipliers["query"]["lr"] for c in sweep.runs.values()]
    assert factors == [1.0, 2.0]


def test_set_overrides_base_alone(read):
    content = {"base": {"train": {"tokens": 400_000, "clip": 1.0}}, "grid": {"seed": [5]}}
    sweep = read(content, "train.tokens=800_000", "hyperparameters.eps=1e-12", "train.clip=null")
    (config,) = sweep.runs.values()
    assert config.train.tokens == 800_000
    assert config.hyperparameters.eps == 1e-12
    assert config.train.clip is None
    assert config.seed == 5


def test_set_changes_the_ids(read):
    content = {"grid": {"seed": [0]}}
    assert set(read(content).runs) != set(read(content, "hyperparameters.beta2=0.99").runs)


def test_rules_are_checked_for_every_value_that_they_can_refuse(read):
    grid = {"seed": [0, 1], "hyperparameters.beta1": [0.99, 0.5], "hyperparameters.lr": [0.1, 0.2]}
    base = {"train": {"batch_size": 64}, "scaling": {"base_batch_size": 16}}
    with pytest.raises(ConfigError, match=r"beta1: .*\(at seed=0, hyperparameters.beta1=0.5"):
        read({"base": base, "grid": grid})
    assert len(read({"grid": grid}).runs) == 8


def test_suggestions():
    assert suggestion("widht", ["width", "depth"]) == ", did you mean 'width'?"
    assert suggestion("zzz", ["width", "depth"]) == ", expected one of width, depth"


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_sweeps_of_this_project_are_valid_and_say_why(path):
    sweep = read_sweep(path)
    assert sweep.name == path.stem
    opening = path.read_text(encoding="utf-8").split("name:")[0]
    for word in ("# Why:", "# Cost:", "# Run:", "# Read:"):
        assert word in opening


def test_seeds_take_the_place_of_those_of_every_grid(tmp_path):
    grids = [{"hyperparameters.lr": [0.5, 0.25], "seed": [0, 1]}, {"hyperparameters.lr": [0.125]}]
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump({"name": "s", "grid": grids}), encoding="utf-8")
    found = read_sweep(path, seeds=[40, 41, 40]).runs.values()
    assert sorted((run.hyperparameters.lr, run.seed) for run in found) == [
        (rate, seed) for rate in (0.125, 0.25, 0.5) for seed in (40, 41)
    ]
    assert {run.seed for run in read_sweep(path).runs.values()} == {0, 1}


def test_a_search_has_seeds_of_its_own():
    with pytest.raises(ConfigError, match="--seeds: a search has seeds of its own"):
        read_sweep(Path(__file__).parent.parent / "sweeps/search_smoke.yaml", seeds=[40])
