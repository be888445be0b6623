"""Loss against the learning rate, one line a width, with and without QK norm."""

from functools import partial

from analysis.studies import STUDIES
from figures.transfer import draw_study, report_study

draw = partial(draw_study, STUDIES["no_qk_norm"])
report = partial(report_study, STUDIES["no_qk_norm"])
