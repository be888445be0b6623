"""Laws of the loss along a schedule: what is fitted to some trainings, and judged on others.

curves       trainings as the laws see them: the rate at every step, and losses on the way
annealing    the law of arXiv 2408.11029: a power of the area, less what annealing gains
multi_power  the Multi-Power Law, arXiv 2503.12811
convex       the bound on the last iterate of convex problems, arXiv 2310.07831 and 2501.18965
opt_laws     Opt-Laws-style, ours: features from an SDE, a regression, a model of divergence
known        no law: the loss that the same schedule, or its family, had where it is known
laws         all of them by name
splits       which trainings a law knows, and on which it is judged
measures     how well it predicts, and chooses among schedules

A law is a function from curves to a `Predictor`. docs/schedule_laws.md has the sources, the splits
and measures that were decided beforehand, and what was found.
"""
