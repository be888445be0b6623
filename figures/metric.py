"""A statistic of the optima against the scale, one line an arm: which arm loses what?"""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.transfer import Transfer
from figures.style import distinct_palette, size_axis
from paper_repro.errors import ConfigError

#: Columns of `Transfer.optima`, and what they are.
METRICS = {
    "optimum": "log2 of the optimum",
    "shift": "shift of the optimum from the base's (octaves)",
    "loss": "loss at the scale's own optimum (nats)",
    "regret": "regret of the base's optimum (nats)",
}
#: The metrics that compare a scale with the base, where they are 0.
RELATIVE = ("shift", "regret")


def draw_metric(transfer: Transfer, metric: str) -> Figure:
    """A statistic against the scale with its 95 % interval over seeds, one line an arm.

    Scales whose optimum is not bracketed are left out, as they are from all statistics.

    Raises:
        ConfigError: if there is no such metric.
    """
    if metric not in METRICS:
        raise ConfigError(f"metric {metric!r}: expected one of {', '.join(METRICS)}")
    axis, summary = transfer.axis, transfer.optima()
    summary = summary[summary["bracketed"]].copy()
    if metric in RELATIVE:
        summary.loc[summary["base"], [metric, f"{metric}_low", f"{metric}_high"]] = 0.0
    figure = Figure((5.4, 3.2), layout="constrained")
    panel = figure.subplots()
    arms = [arm.label for arm in transfer.arms]
    for offset, (label, colour) in enumerate(distinct_palette(arms).items()):
        rows = summary[summary["label"] == label]
        places = rows["scale"] * 2 ** (0.06 * (offset - (len(arms) - 1) / 2))  # side by side
        value, low, high = (rows[metric + end] for end in ("", "_low", "_high"))
        ends = [value - low, high - value]
        panel.errorbar(places, value, ends, marker="o", capsize=3, color=colour, label=label)
    if metric in RELATIVE:
        panel.axhline(0, color="0.55", linewidth=1, linestyle=":")
    scales = sorted(summary["scale"].unique())
    size_axis(panel, scales, [axis.text(scale) for scale in scales])
    panel.set_xlabel(axis.label)
    panel.set_ylabel(METRICS[metric])
    figure.legend(loc="outside right upper")
    return figure
