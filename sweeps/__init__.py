"""Sweeps: which runs to train, and the commands that plan, launch and watch them."""
