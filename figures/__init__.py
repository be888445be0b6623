"""Figures from results: one module and one function each, all made by `python -m figures`."""

from paper_repro.packages import check_packages

check_packages()
