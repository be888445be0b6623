"""Corpora `hf:<dataset>`: the column `text` of a dataset on the hub or in a folder, streamed."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from paper_repro.data.documents import up_to
from paper_repro.errors import ConfigError

_NAME = re.compile(r"hf:(?P<path>[^:]+?)(@(?P<revision>[\w.-]+))?(:(?P<configuration>.+))?")


def on_hub(name: str) -> bool:
    """Whether a corpus is streamed, maybe over the network: `hf:<dataset>`."""
    return _NAME.fullmatch(name) is not None


def hub_files(name: str, limit: int) -> list[Iterable[str]]:
    """The documents of each file of the split `train`, streamed when they are iterated.

    A file may be large and hold one source alone, so each gives as much as any other: the text
    that is read has the mixture of the files, not what the first of them happens to be.

    Args:
        name: `hf:<dataset>`, `hf:<dataset>@<revision>`, either with `:<configuration>`.
        limit: bytes of text in all. A file that has less than its share is read whole.

    Raises:
        ConfigError: `datasets` is not installed, or the dataset cannot be found; iterating raises
            it too, when the connection is lost or there is no column `text`.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise ConfigError(
            f"data.corpus {name!r}: needs the datasets package, pip install 'paper-repro[hf]'"
        ) from None
    found = _NAME.fullmatch(name)
    assert found is not None
    path, revision, configuration = found["path"], found["revision"], found["configuration"]
    with _explained(name):
        builder = datasets.load_dataset_builder(path, configuration, revision=revision)
        if builder.name == "parquet":
            urls = builder.config.data_files["train"]
            columns = [_column(url, builder.storage_options) for url in urls]
        else:
            rows = builder.as_streaming_dataset(split="train")
            count = rows.num_shards
            shards = (rows.shard(num_shards=count, index=index) for index in range(count))
            columns = [(row.get("text", ...) for row in shard) for shard in shards]
    return [up_to(limit // len(columns), _texts(name, column)) for column in columns]


def _column(url: str, options: dict[str, Any]) -> Iterator[Any]:
    """The column `text` of a Parquet file, a row group at a time.

    Not by `datasets`, whose reader keeps what it reads of a file: in release 5.2 it took 1.7 GB for
    one file of 0.9 GB, this one 0.2.
    """
    import fsspec  # what datasets opens files with
    import pyarrow.parquet

    with fsspec.open(url, "rb", **options) as file:
        parquet = pyarrow.parquet.ParquetFile(file, pre_buffer=False)
        if "text" not in parquet.schema_arrow.names:
            yield ...
        for batch in parquet.iter_batches(batch_size=1000, columns=["text"], use_threads=False):
            yield from batch["text"].to_pylist()


def _texts(name: str, column: Iterable[Any]) -> Iterator[str]:
    with _explained(name):
        for text in column:
            if not isinstance(text, str | None):
                raise ConfigError(f"data.corpus {name!r}: has no column 'text' of strings")
            if text is not None:  # an empty cell
                yield text


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Whatever the many transports of `datasets` raise, as one line."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"data.corpus {name!r}: cannot be streamed ({type(error).__name__}: {reason})"
        ) from error
