"""The axes along which a hyperparameter may transfer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """One scale of a run and the column that says where its base is."""

    name: str
    column: str
    base_column: str
    label: str
    """The axis in print."""

    def text(self, scale: int) -> str:
        """A scale in print: `256`, `147k`, `2.36M`."""
        for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
            if scale >= max(size, 10_000):
                return f"{scale / size:.3g}{unit}"
        return str(scale)


AXES = {
    axis.name: axis
    for axis in (
        Axis("width", "model.width", "scaling.base_width", "width"),
        Axis("depth", "model.depth", "scaling.base_depth", "depth"),
        Axis("batch_size", "train.batch_size", "scaling.base_batch_size", "batch size"),
        Axis("tokens", "train.tokens", "scaling.base_tokens", "tokens"),
    )
}

#: Data grown by the batch at a fixed number of steps (Figure 14 of arXiv 2512.22382).
ISO_STEPS = Axis(
    "iso_steps", "train.batch_size", "scaling.base_batch_size", "batch size at fixed steps"
)
