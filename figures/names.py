"""The names of all figures, known without the code that draws."""

from __future__ import annotations

from collections.abc import Collection

from paper_repro.errors import ConfigError

NAMES = (
    "lr_width",
    "transfer_width",
    "transfer_depth",
    "transfer_batch",
    "transfer_decay",
    "transfer_duration",
    "transfer_duration_batch_1",
    "transfer_duration_batch_32",
    "transfer_steps",
    "transfer_qk_norm",
    "transfer_eps",
    "lr_depth",
    "lr_batch",
    "wd_batch",
    "lr_duration",
    "iso_steps",
    "no_qk_norm",
    "eps_fixes",
    "verdicts",
    "duration_exponents",
    "loss_vs_tokens",
    "search",
    "modules",
    "attribution",
    "speedup",
    "landscape",
    "transfer_check",
    "public_runs",
    "sde",
    "schedule_laws",
    "annealings",
)
"""All figures (`figures.registry.FIGURES`), in the order in which they are made."""


def check_name(name: str, names: Collection[str] = NAMES) -> None:
    """Check that a name is among those of figures.

    Raises:
        ConfigError: it is not.
    """
    if name not in names:
        raise ConfigError(f"no figure {name!r}; there are {', '.join(names)}")
