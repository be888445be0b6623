"""The proposers that there are: ours, and those of Optuna."""

from __future__ import annotations

from importlib.util import find_spec

from paper_repro.errors import ConfigError
from paper_repro.search.proposers import Proposer, ProposerName
from paper_repro.search.space import Space
from paper_repro.search.trust_region import TrustRegion

#: The packages of the extra `search` that each of Optuna's needs.
_NEEDS: dict[ProposerName, tuple[str, ...]] = {
    **dict.fromkeys(("random", "tpe", "gp"), ("optuna",)),
    "cma_es": ("optuna", "cmaes"),
}


def check_installed(name: ProposerName) -> None:
    """Check that a proposer can be made here.

    Raises:
        ConfigError: a package is missing.
    """
    for package in _NEEDS.get(name, ()):
        if find_spec(package) is None:
            raise ConfigError(
                f"search.proposer: {name} needs the package {package}, which is not installed: "
                "pip install -e '.[search]'"
            )


def make_proposer(name: ProposerName, space: Space, seed: int) -> Proposer:
    """A proposer that was told nothing yet.

    Raises:
        ConfigError: it needs a package that is not installed.
    """
    check_installed(name)
    if name == "trust_region":
        return TrustRegion(space, seed)
    # Here: ours does without Optuna, which takes long to import.
    from paper_repro.search.optuna_proposers import CmaEsProposer, OptunaProposer

    return (CmaEsProposer if name == "cma_es" else OptunaProposer)(name, space, seed)
