"""The parameterisations: factors on the base values of hyperparameters, as a table."""

from paper_repro.parameterization.table import *  # noqa: F403
