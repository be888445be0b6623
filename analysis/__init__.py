"""From records to numbers: tidy frames, optima, drift, regret and verdicts.

load            records of a sweep -> one DataFrame, and Parquet
axes            the scales along which hyperparameters may transfer
arms            rules and conditions that are compared; the same runs read under another rule
studies         what each sweep measures, and the arms of its figure and of its table rows
optimum         the optimum of one loss curve
seeds           intervals over seeds
transfer        optima, drift and regret of a sweep, with verdicts
duration        how the best learning rate falls with tokens, and which conditions move that
loss_vs_tokens  final losses by duration, each duration rule at the base's optimum
laws            fitted laws of loss against tokens, and whether their asymptotes differ
regime          whether the runs are beyond the bigram plateau
report          the same, as text for the terminal
tables          the tables in `results/`, made from the Parquet files there
compare         parameterisations side by side: runs, multipliers, coordinate checks
notebooks       executes the notebooks of this folder and keeps their outputs
"""
