"""Figures from results: one module and one function each, all made by `python -m figures`."""
