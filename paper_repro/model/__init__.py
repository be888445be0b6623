"""The GPT that all runs train, for one run or for several at once."""

from paper_repro.model.gpt import GPT, Forward, losses

__all__ = ["GPT", "Forward", "losses"]
