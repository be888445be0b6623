"""Training: the trainer and its loop, optimiser groups, schedules, checkpoints, processes.

Knows no record: `train(config)` trains one run and returns its outcome; an `Observer` receives
what a run reports while it trains.
"""

from paper_repro.training.observer import LoggedStep, Observer, Outcome, RunLostError, RunStart
from paper_repro.training.trainer import Trainer, train

__all__ = ["LoggedStep", "Observer", "Outcome", "RunLostError", "RunStart", "Trainer", "train"]
