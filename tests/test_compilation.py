"""What torch compiles is kept where later launches and other machines of the kind find it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.tiny_sweep import ROOT

from paper_repro import cores
from paper_repro.config import ModelConfig
from paper_repro.model import GPT, gpt_losses
from paper_repro.training import devices
from paper_repro.training.devices import COMPILED_VARIABLE, machine_kind, share_compiled

TRAIN = """
import json
from paper_repro.config import Execution, RunConfig
from paper_repro.training.trainer import train
shape = {"width": 8, "depth": 1, "head_dim": 8}
data = {"corpus": "synthetic", "context": 16}
short = {"batch_size": 2, "tokens": 96, "evaluations": 1, "eval_sequences": 8}
base = {"base_batch_size": 2, "base_tokens": 96}
run = RunConfig.model_validate({"model": shape, "data": data, "train": short, "scaling": base})
loss = train(run, Execution(device="cpu", compile=True)).val_loss
from torch._dynamo.utils import counters  # not before: its import chooses torch's own place
print(json.dumps([loss, {**counters["inductor"], **counters["aot_autograd"]}]))
"""
"""A process that trains one compiled run and counts what torch compiled."""


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The cache of token files, where no place of torch's is named."""
    monkeypatch.setenv("PAPER_REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(COMPILED_VARIABLE, "set, so that it is put back")
    monkeypatch.delenv(COMPILED_VARIABLE)
    return tmp_path / "cache"


def test_it_is_kept_beside_the_token_files(cache):
    share_compiled()
    assert os.environ[COMPILED_VARIABLE] == str(cache / "compiled" / machine_kind())
    assert list(Path(os.environ[COMPILED_VARIABLE]).iterdir()) == []


def test_a_place_that_the_user_names_is_left(cache, monkeypatch):
    monkeypatch.setenv(COMPILED_VARIABLE, "/mine")
    share_compiled()
    assert os.environ[COMPILED_VARIABLE] == "/mine"
    assert not cache.exists()


@pytest.mark.parametrize(
    ("problem", "told"), [("a file", "Not a directory"), ("full", "File too large")]
)
def test_where_nothing_can_be_kept_torch_takes_its_own_place(problem, told, cache, caplog):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if problem == "a file":
            cache.touch()
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (devices.COMPILED_BYTES // 2, limits[1]))
        share_compiled()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert COMPILED_VARIABLE not in os.environ
    (warning,) = caplog.messages
    assert told in warning


def test_machines_that_differ_in_instructions_are_of_several_kinds(tmp_path, monkeypatch):
    """Or in those that torch is kept from."""
    here = machine_kind()
    assert machine_kind() == here
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    kinds = {here, machine_kind()}
    monkeypatch.setattr(cores, "CPU_INFO", tmp_path / "cpuinfo")
    for flags in ("avx2", "avx2 avx512f", "avx512f avx2"):
        (tmp_path / "cpuinfo").write_text(f"model name : one\nflags : {flags}\n")
        kinds.add(machine_kind())
    assert len(kinds) == 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_graph_in_float32_is_one_that_torch_caches_whole(dtype):
    """It does not where a region of autocast is in it, as in bfloat16."""
    names: list[str] = []

    def backend(graph, _):
        names.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    model = GPT(ModelConfig(width=8, depth=1, head_dim=8), 256, 16)
    tokens = torch.zeros(2, 17, dtype=torch.long)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        torch.compile(lambda x: gpt_losses(model, x), backend=backend)(tokens)
    assert any("attention" in name for name in names)
    assert any("autocast" in name for name in names) is (dtype == "bfloat16")


@pytest.mark.slow
def test_a_second_process_compiles_nothing(cache):
    def trained() -> tuple[float, dict[str, int]]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", TRAIN]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        loss, counted = json.loads(done.stdout.splitlines()[-1])
        return loss, counted

    def kept() -> set[Path]:
        return {path for path in cache.rglob("*.so") if "probe" not in path.name}

    loss, counted = trained()
    compiled = kept()
    assert (counted["fxgraph_cache_miss"], counted["autograd_cache_miss"]) == (2, 1)
    assert compiled
    again, counted = trained()
    assert again == loss
    assert (counted["fxgraph_cache_hit"], counted["autograd_cache_hit"]) == (2, 1)
    assert not any("miss" in name or "bypass" in name for name in counted)
    assert kept() == compiled
