"""The axes along which a hyperparameter may transfer, and how things are called in print."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """One scale of a run and the column that says where its base is."""

    name: str
    column: str
    base_column: str


AXES = {
    axis.name: axis
    for axis in (
        Axis("width", "model.width", "scaling.base_width"),
        Axis("depth", "model.depth", "scaling.base_depth"),
        Axis("batch size", "train.batch_size", "scaling.base_batch_size"),
        Axis("tokens", "train.tokens", "scaling.base_tokens"),
    )
}

#: Names in print, in the order in which panels and tables show them.
PARAMETERIZATION_NAMES = {
    "sp": "SP",
    "sp_fan_in": "SP (1/fan-in init)",
    "mup": "μP",
    "completep": "CompleteP",
    "complete_d": "Complete(d)P",
}


def arm_name(arm: str) -> str:
    """How an arm is called in print; an arm that is no parameterisation keeps its name."""
    return PARAMETERIZATION_NAMES.get(arm, arm)


def in_order(arms: list[str]) -> list[str]:
    """Arms in the order of `PARAMETERIZATION_NAMES`, others after them by name."""
    order = list(PARAMETERIZATION_NAMES)
    return sorted(arms, key=lambda arm: (order.index(arm) if arm in order else len(order), arm))
