"""Sweep files at several sizes: their runs, names and errors; dry runs of corpora on the hub."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch
import yaml

import figures.check
from paper_repro.cost import parameters
from paper_repro.errors import ConfigError
from paper_repro.model import GPT
from paper_repro.records import Record, Status
from sweeps import cancel, drawing, launch, status
from sweeps.expand import read_sweep
from sweeps.plan import make_plan, vocabulary_size

ROOT = Path(__file__).parent.parent
TINY = {
    "model": {"width": 16, "depth": 1, "head_dim": 8},
    "data": {"corpus": "synthetic", "context": 16},
    "train": {"batch_size": 2, "tokens": 640, "eval_sequences": 8},
    "scaling": {"base_width": 16, "base_depth": 1, "base_batch_size": 2, "base_tokens": 640},
}
SIZED = {
    "name": "sized",
    "size": "cpu",
    "base": TINY,
    "grid": {"seed": [0, 1]},
    "sizes": {
        "cpu": {},
        "gpu": {
            "base": {"model": {"width": 32}, "seed": 3},
            "grid": {"hyperparameters.lr": [0.5, 0.25, 0.125]},
            "profile": "gpu.yaml",
        },
        "paper": {"base": {"model": {"width": 64}}, "zip": {"model.depth": [1, 2]}},
    },
    "profile": "cpu.yaml",
}


def write(folder: Path, **changes: Any) -> Path:
    """`SIZED` with some keys changed, or taken out by None."""
    content = {key: value for key, value in {**SIZED, **changes}.items() if value is not None}
    path = folder / "sized.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def test_the_file_chooses_a_size_and_the_caller_another(tmp_path):
    path = write(tmp_path)
    assert read_sweep(path).size == "cpu"
    assert read_sweep(path, size="paper").size == "paper"
    assert read_sweep(write(tmp_path, size="gpu")).size == "gpu"
    assert read_sweep(path, size="gpu") == read_sweep(write(tmp_path, size="gpu"))


def test_a_size_is_merged_into_the_base_and_replaces_axes_and_profile(tmp_path):
    path = write(tmp_path)
    gpu = read_sweep(path, size="gpu")
    runs = list(gpu.runs.values())
    assert [run.hyperparameters.lr for run in runs] == [0.5, 0.25, 0.125]
    for run in runs:
        assert (run.seed, run.model.width, run.model.depth, run.model.head_dim) == (3, 32, 1, 8)
        assert run.data.corpus == "synthetic"
    assert gpu.profile == Path("gpu.yaml")
    cpu = read_sweep(path)
    assert [(run.seed, run.model.width) for run in cpu.runs.values()] == [(0, 16), (1, 16)]
    assert cpu.profile == Path("cpu.yaml")


def test_what_a_size_leaves_out_is_that_of_the_file(tmp_path):
    runs = read_sweep(write(tmp_path), size="paper").runs.values()
    points = [(run.seed, run.model.depth, run.model.width) for run in runs]
    assert points == [(seed, depth, 64) for seed in (0, 1) for depth in (1, 2)]


def test_a_size_has_the_runs_of_a_file_without_sizes(tmp_path):
    plain = write(tmp_path, size=None, sizes=None)
    sweep = read_sweep(plain)
    assert (sweep.name, sweep.size) == ("sized", None)
    assert sweep.runs == read_sweep(write(tmp_path)).runs


def test_names_are_directories(tmp_path):
    path = write(tmp_path)
    names = [read_sweep(path, size=size).name for size in (None, "cpu", "gpu", "paper")]
    assert names == ["sized", "sized", "sized_gpu", "sized_paper"]


def test_set_overrides_the_merged_base(tmp_path):
    overrides = ["model.width=48", "train.tokens=320"]
    for run in read_sweep(write(tmp_path), overrides, "gpu").runs.values():
        assert (run.model.width, run.train.tokens, run.seed) == (48, 320, 3)
    with pytest.raises(ConfigError, match=r"--set seed: is varied"):
        read_sweep(write(tmp_path), ["seed=1"])


def test_sizes_that_are_not_chosen_are_checked_but_not_expanded(tmp_path):
    """What a file says is checked at every size; whether its runs can be, at the chosen one."""
    path = write(tmp_path, sizes={"cpu": {}, "paper": {"base": {"model": {"width": 7}}}})
    assert len(read_sweep(path).runs) == 2
    with pytest.raises(ConfigError, match="width 7 is not a multiple of head_dim 8"):
        read_sweep(path, size="paper")
    path = write(tmp_path, sizes={"cpu": {}, "paper": {"grid": {"seed": "many"}}})
    with pytest.raises(ConfigError, match=r"sizes\.paper\.grid\.seed: expected a list of values"):
        read_sweep(path)


def test_a_base_file_stands_under_the_base_beside_it(tmp_path):
    """From the least to the most particular: the file's, then the size's, a base over its file."""
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "all.yaml").write_text("model: {width: 8, depth: 3}\nseed: 5\n")
    (tmp_path / "bases" / "gpu.yaml").write_text("model: {depth: 4, mlp_ratio: 2}\n")
    gpu = {"base_file": "bases/gpu.yaml", "base": {"model": {"mlp_ratio": 3}}}
    axes = {"grid": {"hyperparameters.lr": [0.5]}, "base_file": "bases/all.yaml"}
    path = write(tmp_path, **axes, sizes={"cpu": {}, "gpu": gpu})
    shapes = {"cpu": (16, 1, 4), "gpu": (16, 4, 3)}
    for size, shape in shapes.items():
        (run,) = read_sweep(path, size=size).runs.values()
        assert (run.model.width, run.model.depth, run.model.mlp_ratio, run.seed) == (*shape, 5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modle: {}", "modle: unknown key, did you mean 'model'?"),
        ("[model]", "expected a mapping (got ['model'])"),
        ("model: [", ": not valid YAML"),
        (None, "cannot be read"),
    ],
)
def test_errors_in_a_base_file_name_both_files(tmp_path, text, expected):
    shared = tmp_path / "shared.yaml"
    if text is not None:
        shared.write_text(text, encoding="utf-8")
    path = write(tmp_path, sizes={"cpu": {"base_file": "shared.yaml"}})
    with pytest.raises(ConfigError) as error:
        read_sweep(path)
    assert str(error.value).startswith(f"{path}: sizes.cpu.base_file: {shared}")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


# Each: changes of SIZED, the size asked for, and the error after the file's name.
ERRORS: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "sizes without size": (
        {"size": None},
        None,
        "size: expected one of cpu, gpu, paper beside sizes, it is absent",
    ),
    "sizes without size, but asked for": ({"size": None}, "cpu", "size: expected one of cpu, gpu"),
    "size without sizes": ({"sizes": None}, None, "size: expected the key sizes beside it"),
    "unknown size": (
        {"size": "huge"},
        None,
        "size: expected one of cpu, gpu, paper, the file's sizes (got 'huge')",
    ),
    "unknown size, another asked for": ({"size": "huge"}, "cpu", "size: expected one of cpu"),
    "size as a list": ({"size": ["cpu"]}, None, "size: expected one of cpu, gpu, paper, the"),
    "size that the file does not have": (
        {"sizes": {"cpu": {}}},
        "gpu",
        "--size: expected one of cpu, the file's sizes (got 'gpu')",
    ),
    "unknown size asked for": (
        {},
        "huge",
        "--size: expected one of cpu, gpu, paper, the file's sizes (got 'huge')",
    ),
    "size asked of a file without": (
        {"size": None, "sizes": None},
        "gpu",
        "--size gpu: expected a file with the key sizes",
    ),
    "no sizes": ({"sizes": {}}, None, "sizes: expected a mapping with some of the keys cpu, gpu,"),
    "sizes as a list": ({"sizes": ["cpu"]}, None, "sizes: expected a mapping with some of"),
    "misspelt size": (
        {"sizes": {"cpu": {}, "papper": {}}},
        None,
        "sizes.papper: unknown key, did you mean 'paper'?",
    ),
    "size without content": (
        {"sizes": {"cpu": None}},
        None,
        "sizes.cpu: expected a mapping with some of the keys base, base_file, grid, zip,",
    ),
    "key that no size has": (
        {"sizes": {"cpu": {}, "gpu": {"figure": "lr_width"}}},
        None,
        "sizes.gpu.figure: unknown key, expected one of base, base_file, grid, zip,",
    ),
    "misspelt key of a size": (
        {"sizes": {"cpu": {}, "gpu": {"gird": {}}}},
        None,
        "sizes.gpu.gird: unknown key, did you mean 'grid'?",
    ),
    "misspelt key of a base": (
        {"sizes": {"cpu": {}, "gpu": {"base": {"modle": {}}}}},
        None,
        "sizes.gpu.base.modle: unknown key, did you mean 'model'?",
    ),
    "misspelt key of the shared base": ({"base": {"modle": {}}}, None, "base.modle: unknown key"),
    "base of a size as a number": (
        {"sizes": {"cpu": {"base": 3}}},
        None,
        "sizes.cpu.base: expected a mapping (got 3)",
    ),
    "misspelt axis": (
        {"sizes": {"cpu": {}, "gpu": {"grid": [{"seed": [0]}, {"sede": [0]}]}}},
        None,
        "sizes.gpu.grid.1.sede: unknown key, did you mean 'seed'?",
    ),
    "misspelt axis of zip": (
        {"sizes": {"cpu": {}, "gpu": {"zip": {"model.widht": [0]}}}},
        None,
        "sizes.gpu.zip.model.widht: unknown key, did you mean 'width'?",
    ),
    "empty grid": ({"sizes": {"cpu": {"grid": {}}}}, None, "sizes.cpu.grid: expected at least one"),
    "empty zip": ({"sizes": {"cpu": {"zip": []}}}, None, "sizes.cpu.zip: expected at least one"),
    "zip of unequal lengths": (
        {"sizes": {"cpu": {"zip": {"model.width": [8], "model.depth": [1, 2]}}}},
        None,
        "sizes.cpu.zip: expected lists of equal length",
    ),
    "duplicate runs": (
        {"sizes": {"cpu": {"grid": {"seed": [1, 1]}}}},
        None,
        "sizes.cpu.grid: duplicate runs: seed=1 and seed=1",
    ),
    "shared grid": ({"grid": {"seed": []}}, None, "grid.seed: expected a list of values"),
    "profile": ({"sizes": {"cpu": {"profile": 3}}}, None, "sizes.cpu.profile: expected the path"),
    "base file": ({"base_file": 3}, None, "base_file: expected the path of a YAML file (got 3)"),
    "width of a size": (
        {"sizes": {"cpu": {"base": {"model": {"width": 20}}}}},
        None,
        "model: width 20 is not a multiple of head_dim 8",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_place(case, tmp_path):
    changes, size, expected = ERRORS[case]
    path = write(tmp_path, **changes)
    with pytest.raises(ConfigError) as error:
        read_sweep(path, size=size)
    assert str(error.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("main", [launch.main, status.main, cancel.main])
def test_every_command_takes_a_size(main, tmp_path, capsys):
    arguments = ["--runs-dir", str(tmp_path / "runs"), "--size", "huge"]
    assert main([str(write(tmp_path)), *arguments]) == 2
    assert "sized.yaml: --size: expected one of cpu, gpu, paper" in capsys.readouterr().err


def test_status_and_dry_run_are_those_of_the_size(tmp_path, capsys):
    path, runs_dir = write(tmp_path), tmp_path / "runs"
    arguments = [str(path), "--runs-dir", str(runs_dir)]
    for run_id, config in read_sweep(path, size="gpu").runs.items():
        record = Record(runs_dir / "sized_gpu" / run_id)
        record.create(config)
        record.finish(Status(status="done", val_loss=2.0, tokens=640, wall_seconds=5.0, error=None))
    assert status.main([*arguments, "--size", "gpu"]) == 0
    assert "3 of 3 runs done" in capsys.readouterr().out
    assert status.main(arguments) == 0
    assert "0 of 2 runs done" in capsys.readouterr().out
    assert launch.main([*arguments, "--size", "paper", "--dry-run"]) == 0
    assert "4 runs in 2 bundles" in capsys.readouterr().out


def test_a_launch_writes_and_draws_what_the_size_is_called(tmp_path, monkeypatch):
    drawn = []
    path = write(tmp_path, figure="lr_width")

    def draw(command: list[str], **options: Any) -> subprocess.Popen[str]:
        drawn.append(" ".join(command[1:]))
        return subprocess.Popen(["cat"], **{**options, "stdout": subprocess.DEVNULL})

    watched = SimpleNamespace(Popen=draw, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr(drawing, "subprocess", watched)
    runs_dir = tmp_path / "runs"
    arguments = ["--runs-dir", str(runs_dir), "--cluster", "debug", "--device", "cpu"]
    assert launch.main([str(path), *arguments, "--size", "gpu"]) == 0
    assert [folder.name for folder in runs_dir.iterdir()] == ["sized_gpu"]
    for run_id in read_sweep(path, size="gpu").runs:
        assert Record(runs_dir / "sized_gpu" / run_id).status().status == "done"
    records = runs_dir / "sized_gpu"
    assert drawn == [
        f"-m figures lr_width --sweep sized_gpu --runs-dir {runs_dir} "
        f"--results-dir {records} --output-dir {records} --only-ids"
    ]


def _nothing_is_downloaded(*_: object, **__: object) -> NoReturn:
    raise AssertionError("asked for the network")


@pytest.fixture(params=["without datasets", "with datasets"])
def _no_network(request, monkeypatch):
    """No connection, and a `datasets` that is absent or must not be asked."""
    module = ModuleType("datasets")
    module.load_dataset_builder = _nothing_is_downloaded  # type: ignore[attr-defined]
    installed = request.param == "with datasets"
    monkeypatch.setitem(sys.modules, "datasets", module if installed else None)
    monkeypatch.setattr(socket.socket, "connect", _nothing_is_downloaded)


HUB = {**TINY, "data": {"corpus": "hf:some/dataset", "context": 16}}


@pytest.mark.usefixtures("_no_network")
def test_a_dry_run_leaves_the_hub_alone(tmp_path, capsys):
    corpora = {"data.corpus": ["hf:some/dataset", "synthetic", "hf:other/dataset"]}
    path = write(tmp_path, base=HUB, grid={"seed": [0, 1], **corpora}, size=None, sizes=None)
    arguments = [str(path), "--runs-dir", str(tmp_path / "runs")]
    assert launch.main([*arguments, "--dry-run"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "not checked" in line]
    assert lines == [
        "corpus hf:some/dataset, hf:other/dataset: not checked, a dry run downloads nothing"
    ]
    assert launch.main(arguments) == 2
    assert "data.corpus 'hf:some/dataset'" in capsys.readouterr().err


@pytest.mark.usefixtures("_no_network")
def test_a_dry_run_checks_what_is_not_on_the_hub(tmp_path, capsys):
    corpora = {"data.corpus": ["hf:some/dataset", "soto"]}
    path = write(tmp_path, base=HUB, grid=corpora, size=None, sizes=None)
    assert launch.main([str(path), "--dry-run"]) == 2
    assert "unknown corpus 'soto'" in capsys.readouterr().err
    path = write(tmp_path)
    assert launch.main([str(path), "--runs-dir", str(tmp_path / "runs"), "--dry-run"]) == 0
    assert "not checked" not in capsys.readouterr().out


def _sizes() -> list[Any]:
    """Every size of every sweep file of the project that has some."""
    files = {path: yaml.safe_load(path.read_bytes()) for path in sorted(ROOT.glob("sweeps/*.yaml"))}
    long = {("ladder", "cpu")}  # it builds a tokenizer and the tokens of 100 MB
    return [
        pytest.param(
            *(path, size),
            id=f"{path.stem}-{size}",
            marks=[pytest.mark.slow] if (path.stem, size) in long else [],
        )
        for path, content in files.items()
        for size in content.get("sizes", {})
    ]


@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize("_no_network", ["without datasets"], indirect=True)
@pytest.mark.parametrize(("path", "size"), _sizes())
def test_every_size_of_this_project_plans_and_the_largest_builds(
    path, size, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(ROOT)  # profiles are relative to it
    sweep = read_sweep(path, size=size)
    if sweep.figure:  # here, as the launch does in a process of its own, which takes seconds
        figures.check.check(sweep.figure, [] if sweep.searches else [*sweep.runs.values()])
    monkeypatch.setattr(launch, "check_figure", lambda _: None)
    cluster = ["--cluster", "slurm"] if sweep.profile else []
    arguments = [str(path), "--size", size, "--runs-dir", str(tmp_path / "runs"), "--dry-run"]
    assert launch.main([*arguments, *cluster]) == 0
    # Of a search also the runs that it will ask for.
    to_do = make_plan(sweep, tmp_path / "runs").to_do
    assert f"{to_do:,} runs to do" in capsys.readouterr().out
    stated = re.search(rf"^#(?: Cost:| +) *{size} +([\d,]+) runs", path.read_text("utf-8"), re.M)
    if stated:
        assert int(stated[1].replace(",", "")) == len(sweep.runs)
    if size != "paper":
        return
    assert sweep.profile
    config = max(
        sweep.runs.values(), key=lambda config: parameters(config.model, vocabulary_size(config))
    )
    vocabulary = vocabulary_size(config)
    with torch.device("meta"):
        model = GPT(config.model, vocabulary, config.data.context)
    built = sum(parameter.numel() for parameter in model.parameters())
    assert built == parameters(config.model, vocabulary)
