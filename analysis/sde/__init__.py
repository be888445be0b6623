"""AdamW as a stochastic differential equation (arXiv 2205.10287, with decay in arXiv 2512.22382).

processes   AdamW on a noisy quadratic, its SDE, and the SDE's moments
experiments batch equivalence, wrong rules, and more signal at an equal horizon, as one table
trained     the same questions asked of the small GPT, from committed runs

The command is `python -m analysis.sde`; what was decided beforehand and what came out is in
docs/sde.md.
"""
