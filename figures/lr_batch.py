"""Loss against the learning rate, one line a batch size: which parts of the rule align them?"""

from functools import partial

from analysis.studies import STUDIES
from figures.transfer import draw_study, report_study

draw = partial(draw_study, STUDIES["lr_batch"])
report = partial(report_study, STUDIES["lr_batch"])
