"""Completed Hyperparameter Transfer (arXiv 2512.22382), reproduced: rules, model, training, records."""
