"""A search of tiny runs, and the rounds that it leaves."""

from __future__ import annotations

import json
from pathlib import Path

SEARCH = """\
name: tiny
base:
  model: {width: 8, depth: 1, head_dim: 8}
  data: {corpus: synthetic, context: 16}
  train: {batch_size: 2, tokens: 1920, evaluations: 1, eval_sequences: 8}
  scaling: {base_width: 8, base_depth: 1, base_batch_size: 2, base_tokens: 1920}
  hyperparameters: {beta1: 0.6}
search:
  space: {hyperparameters.lr: 3, hyperparameters.beta1: 5, hyperparameters.residual: 3}
  trials: TRIALS
  round: 3
  confirm: {seeds: [10, 11], at: [7]}
"""
TRIALS = 13


def search_file(folder: Path, trials: int = TRIALS) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(SEARCH.replace("TRIALS", str(trials)), encoding="utf-8")
    return path


def rounds(folder: Path, name: str = "trust_region-0") -> list[list[dict]]:
    """What was asked for, round by round."""
    paths = sorted((folder / "runs" / "tiny" / "search" / name).glob("0*.json"))
    assert [path.stem for path in paths] == [f"{n:04d}" for n in range(1, len(paths) + 1)]
    return [json.loads(path.read_text())["trials"] for path in paths]
