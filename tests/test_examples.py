"""The scripts of examples/ run."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_hugging_face_llama_trains_with_our_groups_in_its_trainer(capsys):
    for package in ("transformers", "accelerate"):
        pytest.importorskip(package, reason=f"needs the extra peers: {package}")
    arguments = "--width 64 --depth 2 --batch-size 4 --steps 60 --corpus synthetic"
    losses = load("llama_trainer").main(arguments.split())
    assert len(losses) == 10
    assert losses[-1] < losses[0] - 0.3
    table = capsys.readouterr().out
    assert "hidden_weight" in table
    assert "down_proj" in table


@pytest.mark.slow
def test_a_session_on_a_gpu_is_planned_without_one(tmp_path):
    """Every sweep that it names has a size gpu, and plans."""
    command = ["bash", "examples/gpu_session.sh", str(tmp_path), "--dry-run"]
    planned = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert "exit code" not in planned
    assert planned.count("runs to do") == planned.count("python -m sweeps.launch") >= 11
