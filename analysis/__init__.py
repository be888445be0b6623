"""From records to numbers: tidy frames, optima, drift, regret and verdicts.

load            records of a sweep -> one DataFrame, and Parquet
axes            the scales along which hyperparameters may transfer
optimum         the optimum of one loss curve
seeds           intervals over seeds
transfer        optima, drift and regret of a sweep, with verdicts
loss_vs_tokens  final losses by duration, each duration rule at the base's optimum
laws            fitted laws of loss against tokens, and whether their asymptotes differ
regime          whether the runs are beyond the bigram plateau
report          the same, as text for the terminal
compare         parameterisations side by side: runs, multipliers, coordinate checks
notebooks       executes the notebooks of this folder and keeps their outputs
"""
