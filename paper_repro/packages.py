"""The top-level packages of this project, whose names are common enough to be another's too."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

NAMES = ("paper_repro", "slurm", "sweeps", "analysis", "figures")
ROOT = Path(__file__).resolve().parents[1]


def check_packages() -> None:
    """Check that what Python finds under our names is ours.

    Python looks in the working directory first, where a user may have a folder of such a name.

    Raises:
        ImportError: naming what is found in the place of ours.
    """
    for name in NAMES:
        spec = find_spec(name) if (ROOT / name).is_dir() else None
        if spec is None or spec.origin is None:
            continue  # not in this copy of the code, such as a job's; or a folder without modules
        found = Path(spec.origin).resolve()
        if found.parents[1] != ROOT:
            raise ImportError(
                f"the package {name} of this project is hidden by {found.parent}: start Python "
                "elsewhere, or rename that folder"
            )
