"""The parameterisations: a table of factors on the base values of hyperparameters.

Ratios in, factors out: nothing here knows of runs, models or torch.
"""

from paper_repro.parameterization.factors import Factor, Ratios
from paper_repro.parameterization.labels import (
    BRANCHES,
    DRAWN,
    MODULES,
    TENSOR_CLASSES,
    Label,
    Module,
    ModuleType,
    TensorClass,
)
from paper_repro.parameterization.scaling import (
    BetaQuantity,
    BetaRule,
    Multipliers,
    Scaling,
    multipliers,
)
from paper_repro.parameterization.table import (
    COLUMNS,
    FORWARD,
    ITERATIONS,
    PARAMETERIZATIONS,
    RULE_QUANTITIES,
    SDE_RULE,
    TABLE,
    Parameterization,
    RuleQuantity,
    SdeQuantity,
    forward_rule,
    has_sde_rule,
    rule,
)

__all__ = [
    "BRANCHES",
    "COLUMNS",
    "DRAWN",
    "FORWARD",
    "ITERATIONS",
    "MODULES",
    "PARAMETERIZATIONS",
    "RULE_QUANTITIES",
    "SDE_RULE",
    "TABLE",
    "TENSOR_CLASSES",
    "BetaQuantity",
    "BetaRule",
    "Factor",
    "Label",
    "Module",
    "ModuleType",
    "Multipliers",
    "Parameterization",
    "Ratios",
    "RuleQuantity",
    "Scaling",
    "SdeQuantity",
    "TensorClass",
    "forward_rule",
    "has_sde_rule",
    "multipliers",
    "rule",
]
