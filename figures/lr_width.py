"""Loss against the learning rate, one line a width: does the optimum move as the width grows?"""

from functools import partial

from analysis.studies import STUDIES
from figures.transfer import draw_study, report_study

draw = partial(draw_study, STUDIES["lr_width"])
report = partial(report_study, STUDIES["lr_width"])
