"""Token files of a corpus that may exceed the memory, built in steps that a kill does not undo.

The text is read from the network once and kept on disk until the token files are whole
(`paper_repro.data.sorted_documents`). Then it is tokenised range by range. After each the sizes of
the token files are noted, so that a build that was killed cuts them there and goes on. The tokens
are those that `paper_repro.data.cache.split_documents` and a tokenizer give of the same documents.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from paper_repro.config import DataConfig
from paper_repro.data.documents import up_to, validation_documents
from paper_repro.data.sorted_documents import SortedDocuments, write_parts
from paper_repro.data.tokenization import (
    BpeTokenizer,
    ByteTokenizer,
    make_tokenizer,
    read_tokenizer,
)
from paper_repro.files import read_json, write_json

BPE_BYTES = 2**30
"""Of how much text, at most, a BPE is learned: of the first training documents by their keys, which
are a random sample of them."""


def write_streamed(
    config: DataConfig, files: Sequence[Iterable[str]], workspace: Path
) -> tuple[ByteTokenizer | BpeTokenizer, dict[str, int]]:
    """Write `train.bin`, `validation.bin` and the tokenizer into `built` in a directory.

    Args:
        files: the documents of each file of the corpus.
        workspace: where the text and notes on the progress are kept; an earlier build of the same
            is gone on with.

    Returns:
        the tokenizer, and the number of documents of each token file.

    Raises:
        ConfigError: as reading the files does, or there are fewer than two documents.
        OSError: something cannot be written.
    """
    built = workspace / "built"
    write_parts(files, workspace / "text")
    documents = SortedDocuments(workspace / "text")
    different = documents.count()
    held_out = validation_documents(different, config.validation_fraction, config.corpus)
    tokenizer = read_tokenizer(config.tokenizer, built)
    if tokenizer is None:
        training = islice(documents, held_out, None)
        tokenizer = make_tokenizer(config.tokenizer, up_to(BPE_BYTES, training))
        tokenizer.save(built)
    _tokenise(documents, held_out, tokenizer, workspace)
    return tokenizer, {"train": different - held_out, "validation": held_out}


def _tokenise(
    documents: SortedDocuments,
    held_out: int,
    tokenizer: ByteTokenizer | BpeTokenizer,
    workspace: Path,
) -> None:
    start = {"range": 0, "documents": 0, "validation": 0, "train": 0}
    progress: dict[str, int] = read_json(workspace / "progress.json") or start
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(
                _continued(workspace / "built" / f"{name}.bin", progress[name])
            )
            for name in ("validation", "train")
        }
        for index in range(progress["range"], documents.ranges):
            texts = documents.read(index)
            left = max(0, held_out - progress["documents"])
            for name, side in (("validation", texts[:left]), ("train", texts[left:])):
                for tokens in tokenizer.encode(side):
                    files[name].write(tokens.tobytes())
                files[name].flush()
                os.fsync(files[name].fileno())
            progress = {
                "range": index + 1,
                "documents": progress["documents"] + len(texts),
                **{name: file.tell() for name, file in files.items()},
            }
            write_json(workspace / "progress.json", progress)


@contextmanager
def _continued(path: Path, size: int) -> Iterator[BinaryIO]:
    """A file open for writing after its first `size` bytes; what else it had is dropped."""
    path.touch()
    with path.open("r+b") as file:
        file.truncate(size)
        file.seek(size)
        yield file
