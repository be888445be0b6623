"""The GPT that all runs train."""

from paper_repro.model.gpt import GPT, ROPE_BASE, attend, losses, rotate, rotation

__all__ = ["GPT", "ROPE_BASE", "attend", "losses", "rotate", "rotation"]
