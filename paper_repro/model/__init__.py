"""The GPT that all runs train, for one run or for several at once."""

from paper_repro.model.gpt import GPT, gpt_losses
from paper_repro.model.loss import Forward, losses

__all__ = ["GPT", "Forward", "gpt_losses", "losses"]
