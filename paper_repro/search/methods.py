"""The proposers that there are: ours, and those of Optuna."""

from __future__ import annotations

from paper_repro.errors import ConfigError
from paper_repro.search.proposers import Proposer, ProposerName
from paper_repro.search.space import Space
from paper_repro.search.trust_region import TrustRegion


def make_proposer(name: ProposerName, space: Space, seed: int) -> Proposer:
    """A proposer that was told nothing yet.

    Raises:
        ConfigError: it needs Optuna, which is not installed.
    """
    if name == "trust_region":
        return TrustRegion(space, seed)
    try:
        from paper_repro.search.optuna_proposers import CmaEsProposer, OptunaProposer
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"search.proposers: {name} needs {error.name}: pip install 'paper-repro[search]'"
        ) from None
    return (CmaEsProposer if name == "cma_es" else OptunaProposer)(name, space, seed)
