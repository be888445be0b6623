"""Complete(d)P and its relatives (arXiv 2512.22382): the rules, and small GPTs trained under them.

What is exported here is the public interface; `docs/library.md` has examples.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from paper_repro.config import Execution, RunConfig
from paper_repro.errors import ConfigError
from paper_repro.hyperparameters import resolve
from paper_repro.parameterization import Label, Ratios, Scaling, multipliers

if TYPE_CHECKING:
    from paper_repro import coordinate_check
    from paper_repro.data import load_dataset
    from paper_repro.training import Observer, Outcome, Trainer, train

__all__ = [
    "ConfigError",
    "Execution",
    "Label",
    "Observer",
    "Outcome",
    "Ratios",
    "RunConfig",
    "Scaling",
    "Trainer",
    "coordinate_check",
    "load_dataset",
    "multipliers",
    "resolve",
    "train",
]

#: Where the names are that take a second to import, for they need torch or pandas.
_LATER = {
    "Observer": "paper_repro.training",
    "Outcome": "paper_repro.training",
    "Trainer": "paper_repro.training",
    "load_dataset": "paper_repro.data",
    "train": "paper_repro.training",
}


def __getattr__(name: str) -> Any:
    if name == "coordinate_check":
        return importlib.import_module("paper_repro.coordinate_check")
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
