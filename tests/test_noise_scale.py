"""The gradient noise scale: what was put in is found, and the run is left as it was."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from paper_repro.config import RunConfig
from paper_repro.noise_scale import NoiseObserver, main, noise_and_signal
from paper_repro.training import train

TINY = {
    "model": {"width": 16, "depth": 1, "head_dim": 8},
    "data": {"corpus": "synthetic", "context": 16},
    "train": {"batch_size": 4, "tokens": 640, "evaluations": 1, "eval_sequences": 8},
    "scaling": {"base_width": 16, "base_depth": 1, "base_batch_size": 4, "base_tokens": 640},
}


def test_noise_and_signal_are_estimated_without_bias():
    """Of gradients whose mean has the squared norm 4 and whose covariance the trace 40."""
    torch.manual_seed(0)
    found = []
    for _ in range(200):
        mean = torch.zeros(40)
        mean[0] = 2.0
        gradients = mean + torch.randn(8, 40)
        found.append(noise_and_signal([one[:10], one[10:]] for one in gradients))
    noise, signal = torch.tensor(found).mean(dim=0).tolist()
    assert noise == pytest.approx(40, rel=0.03)
    assert signal == pytest.approx(4, rel=0.1)  # |mean of 8|² would be 9


def test_one_sequence_tells_nothing():
    with pytest.raises(ValueError, match="gradients of 1 sequences: expected at least 2"):
        noise_and_signal([[torch.ones(3)]])


def test_measuring_leaves_the_run_as_it_was():
    config = RunConfig.model_validate(TINY)
    observer = NoiseObserver(points=3, sequences=6)
    watched, alone = train(config, observer=observer), train(config)
    assert [point.train_loss for point in watched.curve] == [
        point.train_loss for point in alone.curve
    ]
    assert watched.val_loss == alone.val_loss
    assert [point.step for point in observer.found] == [0, 4, 9]
    assert all(point.noise > 0 for point in observer.found)
    assert observer.found[0].loss == pytest.approx(alone.curve[0].train_loss, rel=0.05)


def test_the_command_merges_parts_of_a_run(tmp_path, capsys):
    paths = [tmp_path / "shape.yaml", tmp_path / "tuned.yaml"]
    own = {"train": {"warmup_fraction": 0.3}, "hyperparameters": {"lr": 0.001}}
    for path, content in zip(paths, (TINY, own), strict=True):
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
    arguments = [*map(str, paths), "--points", "2", "--sequences", "4"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["batch_size"] == 4
    assert [point["step"] for point in found["points"]] == [0, 9]
    assert main(arguments) == 0
    assert "batch size 4" in capsys.readouterr().out
    paths[1].write_text("train: {warm: 1}", encoding="utf-8")
    assert main(arguments) == 2
    assert f"error: {paths[1]}: train.warm" in capsys.readouterr().err
