"""Token files, built once: split by document, tokenise, measure, hash; then memory-map.

A cache entry is a directory that appears whole, by one rename: `train.bin`, `validation.bin`,
`tokenizer.json` for a BPE, and `manifest.json`. Processes that build the same entry at the same
time do the same work, and the first to finish wins; but a corpus on the hub is read by one of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paper_repro.config import DataConfig
from paper_repro.data.corpora import Corpus, open_corpus
from paper_repro.data.dataset import Dataset
from paper_repro.data.documents import keyed, validation_documents
from paper_repro.data.tokenization import (
    TOKEN_DTYPE,
    BpeTokenizer,
    ByteTokenizer,
    Tokens,
    bpe_size,
    make_tokenizer,
)
from paper_repro.errors import ConfigError
from paper_repro.files import read_json, write_json
from paper_repro.paths import expanded

CACHE_VARIABLE = "PAPER_REPRO_CACHE"
"""The variable that says where token files are kept, and beside them compiled steps."""
FORMAT = 1
"""Raise it when the same corpus gives other tokens or the manifest other keys."""
ENTROPY_TOKENS = 2**24
"""Entropies are measured on this many training tokens (documents lie in random order)."""
MEASURED = ("vocab_size", "corpus_hash", "unigram_entropy", "bigram_entropy")
"""Keys of the manifest that a dataset has."""

log = logging.getLogger(__name__)


def load_dataset(config: DataConfig, cache_dir: Path | None = None) -> Dataset:
    """The tokens of a corpus, from the cache or, the first time, from its documents.

    Args:
        cache_dir: by default `$PAPER_REPRO_CACHE`, or `~/.cache/paper_repro`.

    Raises:
        ConfigError: an unknown corpus or tokenizer, a corpus that cannot be read or is too short,
            or a cache directory that cannot be written.
    """
    bpe_size(config.tokenizer)
    corpus = open_corpus(config.corpus, config.hub_bytes)
    entry = (cache_dir or default_cache_dir()) / _entry_name(config, corpus)
    while (manifest := _manifest_if_whole(entry)) is None:
        log.info("tokenising %s with %s ...", config.corpus, config.tokenizer)
        try:
            _build(config, corpus, entry)
        except OSError as error:
            raise ConfigError(
                f"data cache {entry}: cannot be written ({error}); "
                f"{CACHE_VARIABLE} says where it is"
            ) from error
    return Dataset(
        train=_tokens(entry / "train.bin"),
        validation=_tokens(entry / "validation.bin"),
        corpus=config.corpus,
        tokenizer=config.tokenizer,
        context=config.context,
        **{name: manifest[name] for name in MEASURED},
    )


def default_cache_dir() -> Path:
    """Where token files are kept, if nothing else is said.

    Raises:
        ConfigError: it is in a home that is not known.
    """
    if configured := os.environ.get(CACHE_VARIABLE):
        return Path(expanded(configured, CACHE_VARIABLE))
    try:
        return Path(expanded("~/.cache/paper_repro", "data cache"))
    except ConfigError as error:
        raise ConfigError(f"{error}; {CACHE_VARIABLE} says where it is") from None


def _entry_name(config: DataConfig, corpus: Corpus) -> str:
    key = [FORMAT, config.corpus, config.tokenizer, config.validation_fraction, corpus.fingerprint]
    if corpus.files and config.hub_bytes != DataConfig().hub_bytes:  # the default has its old name
        key.append(config.hub_bytes)
    kind = config.corpus.partition(":")[0]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
    return f"{kind}-{config.tokenizer.replace(':', '')}-{digest}"


def _tokens(path: Path) -> Tokens:
    return np.memmap(path, TOKEN_DTYPE, "r")


def _manifest_if_whole(entry: Path) -> dict[str, Any] | None:
    manifest = read_json(entry / "manifest.json") or {}
    sizes: dict[str, int] = manifest.get("file_bytes", {"": 0})
    paths = [(entry / name, size) for name, size in sizes.items()]
    whole = all(path.is_file() and path.stat().st_size == size for path, size in paths)
    return manifest if whole else None


def _build(config: DataConfig, corpus: Corpus, entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    with _workspace(corpus, entry) as workspace:
        if _manifest_if_whole(entry) is not None:
            return  # of another process, for which this one waited
        built = workspace / "built"
        built.mkdir(parents=True, exist_ok=True)
        _write(config, corpus, built)
        if entry.exists() and _manifest_if_whole(entry) is None:
            with contextlib.suppress(FileNotFoundError):  # another process moved it first
                entry.rename(workspace / "damaged")
        try:
            built.rename(entry)
        except OSError:
            if _manifest_if_whole(entry) is None:  # else another process was first
                raise


@contextlib.contextmanager
def _workspace(corpus: Corpus, entry: Path) -> Iterator[Path]:
    """Where an entry is built, beside it.

    Of a corpus on the hub it is kept until the entry is whole, so that a build that was killed is
    gone on with, and is for one process at a time: another waits here.
    """
    if corpus.files is None:
        with tempfile.TemporaryDirectory(prefix=".building-", dir=entry.parent) as temporary:
            yield Path(temporary)
        return
    kept = entry.with_name(f".building-{entry.name}")
    kept.mkdir(exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield kept
        shutil.rmtree(kept, ignore_errors=True)


def _write(config: DataConfig, corpus: Corpus, directory: Path) -> None:
    """Write a whole cache entry into a directory, the manifest last."""
    if corpus.files is None:
        tokenizer, documents = _write_tokens(config, corpus.documents(), directory)
    else:
        # Here: the import of pyarrow is not worth half a second when the tokens are cached.
        from paper_repro.data.streamed import write_streamed

        tokenizer, documents = write_streamed(config, corpus.files(), directory.parent)
    unigram, bigram = entropies(_tokens(directory / "train.bin")[:ENTROPY_TOKENS])
    write_json(
        directory / "manifest.json",
        {
            "corpus": config.corpus,
            "fingerprint": corpus.fingerprint,
            "tokenizer": config.tokenizer,
            "validation_fraction": config.validation_fraction,
            "vocab_size": tokenizer.vocab_size,
            "documents": documents,
            "file_bytes": {path.name: path.stat().st_size for path in directory.iterdir()},
            "corpus_hash": _content_hash(config, directory),
            "unigram_entropy": unigram,
            "bigram_entropy": bigram,
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "tokenizers": version("tokenizers"),
            },
        },
    )


def _write_tokens(
    config: DataConfig, documents: Iterable[str], directory: Path
) -> tuple[ByteTokenizer | BpeTokenizer, dict[str, int]]:
    """Write the token files and the tokenizer of documents that fit into memory.

    Returns:
        the tokenizer, and the number of documents of each token file.
    """
    training, validation = split_documents(documents, config.validation_fraction, config.corpus)
    tokenizer = make_tokenizer(config.tokenizer, training)
    for name, side in (("train", training), ("validation", validation)):
        with (directory / f"{name}.bin").open("wb") as file:
            for tokens in tokenizer.encode(side):
                file.write(tokens.tobytes())
            file.flush()
            os.fsync(file.fileno())
    tokenizer.save(directory)
    return tokenizer, {"train": len(training), "validation": len(validation)}


def _content_hash(config: DataConfig, directory: Path) -> str:
    content = hashlib.sha256(f"{FORMAT} {config.tokenizer}".encode())
    for name in ("train", "validation"):
        with (directory / f"{name}.bin").open("rb") as file:
            while block := file.read(2**20):
                content.update(block)
    return content.hexdigest()


def split_documents(
    documents: Iterable[str], validation_fraction: float, corpus: str
) -> tuple[list[str], list[str]]:
    """Training and validation documents, chosen and ordered by the SHA-256 of their text.

    A corpus is a set: the order of the documents does not matter and equal documents count once,
    so that none is on both sides. NUL characters and empty documents are dropped. At least one
    document is on each side.

    Raises:
        ConfigError: there are fewer than two different documents.
    """
    by_key = dict(keyed(documents))
    ordered = [by_key[key] for key in sorted(by_key)]
    cut = validation_documents(len(ordered), validation_fraction, corpus)
    return ordered[cut:], ordered[:cut]


def entropies(tokens: Tokens) -> tuple[float, float]:
    """Unigram entropy and conditional bigram entropy H(x_t | x_{t-1}) of tokens (T,), in nats."""
    pairs = tokens[:-1].astype(np.uint32) << 16 | tokens[1:]
    _, pair_counts = np.unique(pairs, return_counts=True)
    return (
        _entropy(np.bincount(tokens)),
        _entropy(pair_counts) - _entropy(np.bincount(tokens[:-1])),
    )


def _entropy(counts: NDArray[np.integer]) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())
