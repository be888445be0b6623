"""Complete(d)P and its relatives (arXiv 2512.22382): the rules, and small GPTs trained under them.

What is exported here is the public interface; `docs/library.md` has examples. Each name is imported
when it is first used, so that the rules need neither torch nor pydantic.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paper_repro import coordinate_check
    from paper_repro.apply import parameterize
    from paper_repro.config import Execution, RunConfig
    from paper_repro.data import load_dataset
    from paper_repro.errors import ConfigError
    from paper_repro.hyperparameters import resolve
    from paper_repro.parameterization import Label, Ratios, Scaling, multipliers
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
    "parameterize",
    "resolve",
    "train",
]

_MODULES = {
    "apply": ("parameterize",),
    "config": ("Execution", "RunConfig"),
    "data": ("load_dataset",),
    "errors": ("ConfigError",),
    "hyperparameters": ("resolve",),
    "parameterization": ("Label", "Ratios", "Scaling", "multipliers"),
    "training": ("Observer", "Outcome", "Trainer", "train"),
}
"""Where each name is; `coordinate_check` is itself a module."""


def __getattr__(name: str) -> Any:
    if name == "coordinate_check":
        return importlib.import_module("paper_repro.coordinate_check")
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"paper_repro.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
