"""Tokenizers: UTF-8 bytes, or a byte-level BPE trained on the training documents."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from paper_repro.errors import ConfigError
from paper_repro.files import write_atomically

SEPARATOR = 0
"""Token that ends every document, under every tokenizer."""
SEPARATOR_TEXT = "<|endoftext|>"
TOKEN_DTYPE = np.dtype("<u2")
"""Tokens on disk and in memory: 16 bits, little-endian on every machine."""

TOKENIZER_FILE = "tokenizer.json"
"""Where a BPE is kept, beside its tokens."""

Tokens = NDArray[np.uint16]
log = logging.getLogger(__name__)


def bpe_size(name: str) -> int | None:
    """The vocabulary size that `data.tokenizer` asks for; None means bytes.

    Raises:
        ConfigError: the tokenizer is unknown or its size out of range.
    """
    if name == "bytes":
        return None
    size = re.fullmatch(r"bpe:(\d{1,9})", name)
    if size is None or not 257 <= int(size[1]) <= 2**16:
        raise ConfigError(
            f"data.tokenizer: unknown tokenizer {name!r}, "
            "choose bytes or bpe:<size> with a size from 257 to 65536"
        )
    return int(size[1])


def make_tokenizer(name: str, training_documents: Iterable[str]) -> ByteTokenizer | BpeTokenizer:
    """The tokenizer called `name`; a BPE learns its merges from `training_documents`."""
    size = bpe_size(name)
    return ByteTokenizer() if size is None else BpeTokenizer.learned(size, training_documents)


def read_tokenizer(name: str, directory: Path) -> ByteTokenizer | BpeTokenizer | None:
    """The tokenizer called `name` as it was saved in a directory; None if it was not."""
    if bpe_size(name) is None:
        return ByteTokenizer()
    path = directory / TOKENIZER_FILE
    return BpeTokenizer(LibraryTokenizer.from_file(str(path))) if path.exists() else None


class ByteTokenizer:
    """The UTF-8 bytes of a text. Byte 0 ends documents: texts hold no NUL."""

    vocab_size = 256

    def encode(self, documents: Iterable[str]) -> Iterator[Tokens]:
        """One array a document, shape (tokens,), ending with `SEPARATOR`."""
        for document in documents:
            yield np.frombuffer(document.encode() + b"\0", np.uint8).astype(TOKEN_DTYPE)

    def save(self, directory: Path) -> None:
        """Bytes need no file."""


class BpeTokenizer:
    """Byte-level BPE with GPT-2's splitting into words; every text is encoded without loss."""

    def __init__(self, library_tokenizer: LibraryTokenizer) -> None:
        self.library_tokenizer = library_tokenizer
        self.vocab_size: int = library_tokenizer.get_vocab_size()

    @classmethod
    def learned(cls, size: int, training_documents: Iterable[str]) -> BpeTokenizer:
        """A BPE of `size` tokens, or of fewer where the documents have too few merges."""
        learner = _byte_level(models.BPE())
        learner.train_from_iterator(
            training_documents,
            trainer=trainers.BpeTrainer(
                vocab_size=size,
                show_progress=False,
                special_tokens=[SEPARATOR_TEXT],  # takes id 0
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            ),
        )
        # The encoder does not know the separator as special: a text that spells it is plain text.
        tokenizer = cls(_byte_level(learner.model))
        if tokenizer.vocab_size < size:
            log.warning("the corpus has merges for %d of %d BPE tokens", tokenizer.vocab_size, size)
        return tokenizer

    def encode(self, documents: Iterable[str]) -> Iterator[Tokens]:
        remaining = iter(documents)
        while some := list(islice(remaining, 64)):  # parallel, in bounded memory
            for encoding in self.library_tokenizer.encode_batch(some):
                yield np.array([*encoding.ids, SEPARATOR], dtype=TOKEN_DTYPE)

    def save(self, directory: Path) -> None:
        """Write what is needed to read the tokens back as text."""
        write_atomically(
            directory / TOKENIZER_FILE, lambda path: self.library_tokenizer.save(str(path))
        )


def _byte_level(model: models.Model) -> LibraryTokenizer:
    tokenizer = LibraryTokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
