"""The coordinate check: does a parameterisation keep training stable as width or depth grows?

Models of growing size train a few steps; activations, their change and the updates of the weights
must neither grow nor vanish (arXiv 2203.03466, appendix D.1; arXiv 2505.01618). A wrong rule
shows as a slope in log-log.

`check` does it in one call; the command is
`python -m paper_repro.coordinate_check [--parameterization P] [--axis width|depth]`.
"""

from paper_repro.coordinate_check.foreign import check_model
from paper_repro.coordinate_check.judge import (
    GradientSlope,
    Report,
    Verdict,
    check,
    gradient_slopes,
    judge,
)
from paper_repro.coordinate_check.measure import Axis, check_config, measure
from paper_repro.coordinate_check.plot import plot

__all__ = [
    "Axis",
    "GradientSlope",
    "Report",
    "Verdict",
    "check",
    "check_config",
    "check_model",
    "gradient_slopes",
    "judge",
    "measure",
    "plot",
]
