"""Loss against the weight decay, one line a batch size: which parts of the rule align them?"""

from functools import partial

from analysis.studies import STUDIES
from figures.transfer import draw_study, report_study

draw = partial(draw_study, STUDIES["wd_batch"])
report = partial(report_study, STUDIES["wd_batch"])
