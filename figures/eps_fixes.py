"""Loss against the learning rate, one line a width, where ε is large enough to matter."""

from functools import partial

from analysis.studies import STUDIES
from figures.transfer import draw_study, report_study

draw = partial(draw_study, STUDIES["eps_fixes"])
report = partial(report_study, STUDIES["eps_fixes"])
