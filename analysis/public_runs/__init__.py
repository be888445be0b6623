"""Training runs that others published, against which exponents are held without training anything.

sources     reads clones of their repositories into tables of runs
cells       the best learning rate of each cell (model, tokens, batch size), with an interval
regimes     two planes of the best rate with the boundary between them fitted; bootstrap over groups
best_batch  the best batch size of each model and number of tokens, and the best rate there
regret      what it costs to carry a rate from cell to cell under a rule
laws        published laws of the best rate at cells that they have not seen
along       laws of the loss along a schedule (`analysis.schedule_laws`)
schedules   how the best rate falls with tokens, by the share of the run that decays
tables      all of it as the tables in `results/`

The command is `python -m analysis.public_runs`; what it found and what was decided beforehand is in
docs/public_runs.md.
"""
