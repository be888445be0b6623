"""Text as tokens: corpora, tokenizers, cached token files, and batches by (seed, step)."""

from paper_repro.data.cache import load_dataset
from paper_repro.data.dataset import Dataset

__all__ = ["Dataset", "load_dataset"]
