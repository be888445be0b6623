"""Loss against the learning rate where data grows by the batch: does the optimum stay?"""

from functools import partial

from analysis.studies import STUDIES
from figures.transfer import draw_study, report_study

draw = partial(draw_study, STUDIES["iso_steps"])
report = partial(report_study, STUDIES["iso_steps"])
