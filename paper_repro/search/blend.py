"""Points between tuned hyperparameters: lines and planes through them, in the logarithm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.search.found import tuned

Leaf = tuple[str, ...]

#: How far a run's numbers may be off a line, in their logarithm.
TOLERANCE = 1e-6


def blend(start: RunConfig, ends: Sequence[RunConfig], weights: Sequence[float]) -> dict[str, Any]:
    """What is tuned at start · Π (end / start)^weight, for every number by itself.

    So with one end, weight 0 is the start, 1 the end, and ½ the geometric mean of both. A beta is
    moved by 1 - β, and a multiplier that a run does not state is 1.

    Returns:
        a part of a `RunConfig`, in the form of `tuned`, with the base of the start.

    Raises:
        ConfigError: a number is 0, a list of multipliers by depth has another length elsewhere, or
            a run has courses of its own, which have no logarithm.
    """
    if any(run.train.piecewise for run in (start, *ends)):
        raise ConfigError("train.piecewise: courses cannot be blended")
    origin = _leaves(tuned(start))
    targets = [_leaves(tuned(end)) for end in ends]
    paths = dict.fromkeys(path for leaves in (origin, *targets) for path in leaves)
    content: dict[str, Any] = {"scaling": tuned(start)["scaling"]}
    for path in paths:
        values = [target.get(path, 1.0) for target in targets]
        *parents, last = path
        section = content
        for part in parents:
            section = section.setdefault(part, {})
        section[last] = _blended(path, origin.get(path, 1.0), values, weights)
    whole: dict[str, Any] = _with_lists(content)
    return whole


def weights_of(
    run: RunConfig, start: RunConfig, ends: Sequence[RunConfig]
) -> tuple[float, ...] | None:
    """The reverse of `blend`: where a run lies on the line or plane; None if it does not."""
    if any(each.train.piecewise for each in (run, start, *ends)):
        return None
    origin, found = _leaves(tuned(start)), _leaves(tuned(run))
    targets = [_leaves(tuned(end)) for end in ends]
    paths = list(dict.fromkeys(path for leaves in (origin, found, *targets) for path in leaves))

    def steps(leaves: Mapping[Leaf, float]) -> list[float]:
        return [
            0.0
            if leaves.get(path, 1.0) == origin.get(path, 1.0)
            else _log(path, leaves.get(path, 1.0)) - _log(path, origin.get(path, 1.0))
            for path in paths
        ]

    directions, step = np.array([steps(target) for target in targets]), np.array(steps(found))
    weights = np.linalg.lstsq(directions.T, step, rcond=None)[0]
    if np.abs(weights @ directions - step).max(initial=0.0) > TOLERANCE:
        return None
    return tuple(round(float(weight), 6) + 0.0 for weight in weights)


def _blended(path: Leaf, start: float, ends: Sequence[float], weights: Sequence[float]) -> float:
    """One number; where it is that of the start or of one end, to the bit."""
    moves = [(e, w) for e, w in zip(ends, weights, strict=True) if w and e != start]
    if not moves:
        return start
    if len(moves) == 1 and moves[0][1] == 1:
        return moves[0][0]
    logarithm = _log(path, start)
    logarithm += sum(weight * (_log(path, end) - _log(path, start)) for end, weight in moves)
    value = math.exp(logarithm)
    return 1 - value if _is_beta(path) else value


def _log(path: Leaf, value: float) -> float:
    number = 1 - value if _is_beta(path) else value
    if number <= 0:
        raise ConfigError(f"{'.'.join(path)}: is 0, which has no logarithm")
    return math.log(number)


def _is_beta(path: Leaf) -> bool:
    return path[-1] in ("beta1", "beta2")


def _leaves(content: Any, place: Leaf = ()) -> dict[Leaf, float]:
    """The numbers below `train` and `hyperparameters` by path; those of a list by `[index/length]`.

    So of lists of two lengths, no number is in both.
    """
    if isinstance(content, Mapping):
        sections = content if place else {k: v for k, v in content.items() if k != "scaling"}
        return {
            path: number
            for key, value in sections.items()
            for path, number in _leaves(value, (*place, key)).items()
        }
    if isinstance(content, list):
        return {(*place, f"[{i}/{len(content)}]"): value for i, value in enumerate(content)}
    return {place: content}


def _with_lists(content: Any, place: Leaf = ()) -> Any:
    """Mappings from `[index/length]` as the lists that they were."""
    if not isinstance(content, dict):
        return content
    if not any(key.startswith("[") for key in content):
        return {key: _with_lists(value, (*place, key)) for key, value in content.items()}
    if len({key.partition("/")[2] for key in content}) > 1:
        raise ConfigError(f"{'.'.join(place)}: lists of several lengths cannot be blended")
    return list(content.values())
