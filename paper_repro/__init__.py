"""Completed Hyperparameter Transfer (arXiv 2512.22382): rules, model, training and records."""
