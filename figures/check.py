"""`python -m figures.check NAME`: whether a launch could draw a figure in the end, by exit code.

The configurations of its runs are on standard input, one a line as JSON; none, where they are not
known beforehand, as those of a search.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pandas as pd

from analysis.arms import Arm
from analysis.load import config_columns
from figures.registry import find_figure
from paper_repro.command import command
from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 where there is no such figure, or none of such runs."""
    (name,) = sys.argv[1:] if argv is None else argv
    check(name, [RunConfig.model_validate_json(line) for line in sys.stdin if line.strip()])
    return 0


def check(name: str, configs: Sequence[RunConfig]) -> None:
    """Check that a figure is of one sweep, and can be drawn of such runs where they are known.

    Raises:
        ConfigError: if it cannot, or there is no such figure.
    """
    entry = find_figure(name)
    if len(entry.sweeps) != 1:
        needed = ", ".join((*entry.sweeps, *entry.tables))
        raise ConfigError(
            f"{name} is not of one sweep but of {needed}: draw it when they are there, "
            f"python -m figures {name}"
        )
    if entry.check and configs:
        try:
            entry.check(planned(configs))
        except ConfigError as error:
            raise ConfigError(f"{name} cannot be drawn of these runs: {error}") from None


def planned(configs: Sequence[RunConfig]) -> pd.DataFrame:
    """Runs without results, in the columns of `analysis.load.Results.runs`."""
    return pd.DataFrame(
        {"run_id": config.run_id, "config": config.model_dump_json()}
        | config_columns(config)
        | Arm.of(config).columns()
        for config in configs
    )


if __name__ == "__main__":
    raise SystemExit(main())
