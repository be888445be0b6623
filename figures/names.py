"""`python -m figures.names NAME`: whether there is such a figure, by exit code.

Known without the code that draws, so that a launch can ask before it trains.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

from paper_repro.errors import ConfigError

NAMES = (
    "lr_width",
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
)
"""All figures (`figures.registry.FIGURES`), in the order in which they are made."""


def check_name(name: str, names: Collection[str] = NAMES) -> None:
    """Check that a name is among those of figures.

    Raises:
        ConfigError: it is not.
    """
    if name not in names:
        raise ConfigError(f"no figure {name!r}; there are {', '.join(names)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for a name that no figure has."""
    try:
        for name in sys.argv[1:] if argv is None else argv:
            check_name(name)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
