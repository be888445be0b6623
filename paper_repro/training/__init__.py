"""Training: the loop, optimiser groups, schedules, checkpoints, processes."""
