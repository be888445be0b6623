"""Documents in the order of their keys, sorted on disk: for corpora that may exceed the memory.

Each file of a corpus becomes one Parquet file, here a part: its documents with their keys, as runs
of bounded size, each sorted. Parts are written several at once, and one that is there is whole.
Then the documents are read by ranges of keys, which again have a bounded size.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet

from paper_repro.data.documents import keyed
from paper_repro.files import write_atomically

READERS = 4
"""Parts that are written at the same time."""
PARTS = 256
"""At most; of more files, several make one part."""
RUN_BYTES = 2**25
"""Text that a reader sorts in memory."""
GROUP_BYTES = 2**18
"""Text in a row group of a part, about: what is read at least of it."""
RANGE_BYTES = 2**26
"""Text in a range of keys, about."""
BUCKETS = 2**16
"""Ranges are made of whole buckets, the first 16 bits of a key."""

SCHEMA = pa.schema([("bucket", pa.int32()), ("key", pa.binary(32)), ("text", pa.string())])

log = logging.getLogger(__name__)


class _StoppedError(Exception):
    """Another part could not be written."""


def write_parts(files: Sequence[Iterable[str]], folder: Path) -> None:
    """Write the parts of a corpus that are not there yet.

    Raises:
        ConfigError: as reading the files does.
        OSError: a part cannot be written.
    """
    folder.mkdir(exist_ok=True)
    count = min(len(files), PARTS)
    paths = [folder / f"{index:04}-of-{count:04}.parquet" for index in range(count)]
    stop = threading.Event()
    with ThreadPoolExecutor(READERS) as readers:
        try:
            writing = [
                readers.submit(_write_part, chain.from_iterable(files[index::count]), path, stop)
                for index, path in enumerate(paths)
                if not path.exists()
            ]
            for done, part in enumerate(as_completed(writing), start=count + 1 - len(writing)):
                part.result()
                log.info("read %d of %d parts", done, count)
        except BaseException:
            stop.set()
            readers.shutdown(cancel_futures=True)
            raise


def _write_part(documents: Iterable[str], path: Path, stop: threading.Event) -> None:
    def write(temporary: Path) -> None:
        options = {"compression": "zstd", "use_dictionary": False}  # texts do not repeat
        with pa.parquet.ParquetWriter(temporary, SCHEMA, **options) as writer:
            for run in _runs(documents, stop):
                keys = sorted(run)
                table = pa.table(
                    [list(map(_bucket, keys)), keys, [run[key] for key in keys]], schema=SCHEMA
                )
                groups = math.ceil(table.nbytes / GROUP_BYTES)
                writer.write_table(table, row_group_size=math.ceil(len(keys) / groups))

    write_atomically(path, write)


def _runs(documents: Iterable[str], stop: threading.Event) -> Iterator[dict[bytes, str]]:
    run: dict[bytes, str] = {}
    size = 0
    for key, text in keyed(documents):
        if stop.is_set():
            raise _StoppedError
        run[key] = text
        size += len(text.encode())
        if size > RUN_BYTES:
            yield run
            run, size = {}, 0
    if run:
        yield run


def _bucket(key: bytes) -> int:
    return int.from_bytes(key[:2])


class SortedDocuments:
    """The different documents of a corpus, in the order of their keys."""

    def __init__(self, folder: Path) -> None:
        """Look at the parts in a folder, all of which are there (`write_parts`)."""
        paths = sorted(folder.glob("*.parquet"))
        size = sum(map(_text_bytes, paths))
        self.ranges = min(BUCKETS, max(1, math.ceil(size / RANGE_BYTES)))
        self._dataset = pa.dataset.dataset(paths, schema=SCHEMA, format="parquet")

    def count(self) -> int:
        """How many they are; reads their keys alone."""
        keys = (self._table(index, ["key"])["key"] for index in range(self.ranges))
        return sum(pa.compute.count_distinct(of_range).as_py() for of_range in keys)

    def read(self, index: int) -> list[str]:
        """The documents of one range."""
        table = self._table(index, ["key", "text"])
        by_key = dict(zip(table["key"].to_pylist(), table["text"].to_pylist(), strict=True))
        return [by_key[key] for key in sorted(by_key)]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(map(self.read, range(self.ranges)))

    def _table(self, index: int, columns: list[str]) -> pa.Table:
        first, end = (BUCKETS * edge // self.ranges for edge in (index, index + 1))
        bucket = pa.dataset.field("bucket")
        return self._dataset.to_table(columns, filter=(bucket >= first) & (bucket < end))


def _text_bytes(path: Path) -> int:
    metadata = pa.parquet.read_metadata(path)
    text = SCHEMA.get_field_index("text")
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    return sum(group.column(text).total_uncompressed_size for group in groups)
