"""Loss against the learning rate, one line a training duration, with and without the SDE rule."""

from functools import partial

from analysis.studies import STUDIES
from figures.transfer import draw_study, report_study

draw = partial(draw_study, STUDIES["lr_duration"])
report = partial(report_study, STUDIES["lr_duration"])
