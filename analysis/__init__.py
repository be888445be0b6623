"""From records to numbers: tidy frames, optima, drift, regret and verdicts.

load            records of a sweep -> `Results(runs, curves, trials)`, and Parquet
save            records of a sweep -> committed results
restore         committed results -> records, for a launch to go on from
arms            what is compared, and along what: arms and axes of scale
studies         the study that each sweep is: its axis, its arms
optimum         the optimum of one loss curve
transfer        optima, drift and regret of a sweep, with verdicts
duration        how the best learning rate falls with tokens, and which conditions move that
final_losses    final losses by duration, each duration rule at the base's optimum
laws            fitted laws of loss against tokens, and whether their asymptotes differ
bootstrap       a paired bootstrap over seeds, for any estimator
searches        trials of searches as a table, and the race of their proposers
tuned           arms by the files that they were tuned to, gains and verdicts
speedup         how many fewer tokens one arm needs to reach the loss of another
landscape       the loss around tuned hyperparameters: scans, lines, planes
regime          whether the runs are beyond the bigram plateau
optimum_laws    which recipe for the learning rate costs least at held-out targets
sde             AdamW as a stochastic differential equation
public_runs     the same questions asked of training runs that others published
report          the same as readable tables
tables          the tables in `results/`, made from the Parquet files there
dictionary      the rows of `results/README.md` that follow from the models
compare         parameterisations side by side: runs, multipliers, coordinate checks
notebooks       executes the notebooks of this folder and keeps their outputs
"""

from paper_repro.packages import check_packages

check_packages()
