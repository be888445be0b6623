"""Sweeps: which runs to train, and the commands that plan, launch and watch them."""

from paper_repro.packages import check_packages

check_packages()
