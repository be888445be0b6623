"""Courses of hyperparameters over a training: what follows one, its forms, and which are whole."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

#: Forms of a decay, from its start to its end.
Decay = Literal["linear", "cosine", "sqrt", "exponential"]
#: Forms of the way to a point of a course.
Shape = Literal[Decay, "step"]
#: What may follow a course.
Scheduled = Literal["lr", "weight_decay", "one_minus_beta1", "one_minus_beta2"]


def check_course(
    quantity: Scheduled, places: Sequence[float], factors: Sequence[float], shapes: Sequence[Shape]
) -> None:
    """Check a course through points.

    Args:
        places: shares of the training.
        factors: on the quantity, at least 0.
        shapes: of the way to each point; that to the first has no effect.

    Raises:
        ValueError: says what was expected.
    """
    if not places or any(a >= b for a, b in itertools.pairwise(places)):
        raise ValueError(f"expected points, each at a larger share (got {list(places)})")
    zeros = [factor == 0 for factor in factors]
    if quantity.startswith("one_minus_") and any(zeros):
        raise ValueError("factors must be greater than 0, or a beta would be 1")
    if quantity == "lr" and all(zeros):
        raise ValueError("expected a factor above 0")
    for (left, right), shape in zip(itertools.pairwise(zeros), shapes[1:], strict=True):
        if shape == "exponential" and (left or right):
            raise ValueError("exponential goes between factors greater than 0")
