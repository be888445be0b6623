"""Corpora `hf:`: a mixture of files, in bounded memory, gone on with after a kill, read by one."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from paper_repro.config import DataConfig, RunConfig
from paper_repro.data import cache, load_dataset, sorted_documents, streamed
from paper_repro.data.corpora import open_corpus
from paper_repro.data.hub import hub_files, on_hub
from paper_repro.data.tokenization import SEPARATOR_TEXT
from paper_repro.errors import ConfigError

SMALL = {"RUN_BYTES": 2**17, "RANGE_BYTES": 2**18, "GROUP_BYTES": 2**14}
"""Bounds of memory such that a corpus of 2 MB has many runs and ranges."""
MEDIUM = {"RUN_BYTES": 2**19, "RANGE_BYTES": 2**20, "GROUP_BYTES": 2**16}


def texts_of(source: int, size: float) -> list[str]:
    """Different documents of a source that say so, about `size` bytes, of random words."""
    rng = np.random.default_rng(source)
    words = " ".join("".join(map(chr, word)) for word in rng.integers(97, 123, (3000, 5)))
    starts, lengths = rng.integers(0, 9000, 10**4), rng.integers(20, 2400, 10**4)
    last = int(np.searchsorted(lengths.cumsum(), size))
    return [
        f"source {source}: {index} {words[start : start + length]}"
        for index, (start, length) in enumerate(zip(starts[:last], lengths[:last], strict=True))
    ]


def write_repository(folder: Path, files: Iterable[list[str | None]]) -> str:
    """A dataset in Parquet files, as on the hub; the corpus's name."""
    folder.mkdir()
    for index, texts in enumerate(files):
        table = pa.table({"text": pa.array(texts, pa.string()), "id": range(len(texts))})
        pa.parquet.write_table(table, folder / f"train-{index:05}.parquet", row_group_size=100)
    return f"hf:{folder}"


@pytest.fixture
def small_bounds(monkeypatch):
    for name, value in SMALL.items():
        monkeypatch.setattr(sorted_documents, name, value)


def tokens_of(entry: Path) -> tuple[bytes, bytes]:
    return (entry / "train.bin").read_bytes(), (entry / "validation.bin").read_bytes()


# --- the same tokens as in memory


@pytest.mark.usefixtures("small_bounds")
@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:400"])
def test_tokens_are_those_of_documents_split_in_memory(tokenizer, tmp_path, monkeypatch):
    """Documents that repeat within and across files, empty ones, NULs; more files than parts."""
    monkeypatch.setattr(sorted_documents, "PARTS", 3)
    files = [
        [*texts_of(source, 2e5), "of all", "a\0b", " \n", SEPARATOR_TEXT] for source in range(7)
    ]
    files[2] += files[1][:50] + files[2][:50]
    config = DataConfig(corpus="hf:none", tokenizer=tokenizer, validation_fraction=0.3)
    (tmp_path / "memory").mkdir()
    (tmp_path / "disk" / "built").mkdir(parents=True)
    in_memory, counted = cache._write_tokens(
        config, chain.from_iterable(files), tmp_path / "memory"
    )
    on_disk, counts = streamed.write_streamed(config, files, tmp_path / "disk")
    assert len(list((tmp_path / "disk" / "text").iterdir())) == 3
    assert json.loads((tmp_path / "disk" / "progress.json").read_text())["range"] > 3
    assert tokens_of(tmp_path / "disk" / "built") == tokens_of(tmp_path / "memory")
    assert (on_disk.vocab_size, counts) == (in_memory.vocab_size, counted)


def test_fewer_than_two_documents_are_refused(tmp_path):
    (tmp_path / "built").mkdir()
    with pytest.raises(ConfigError, match=r"'hf:one': has 1 different documents"):
        streamed.write_streamed(DataConfig(corpus="hf:one"), [["only", "only"], [" "]], tmp_path)


def test_an_error_in_one_file_stops_the_others_and_leaves_no_part(tmp_path):
    class LostError(Exception):
        pass

    def endless() -> Iterable[str]:
        while True:
            yield "on and on"

    def lost() -> Iterable[str]:
        yield "one"
        raise LostError

    with pytest.raises(LostError):
        sorted_documents.write_parts([endless(), lost(), endless()], tmp_path / "text")
    assert list((tmp_path / "text").iterdir()) == []


# --- names


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hf:a/b", ("a/b", None, None)),
        ("hf:a/b:c d", ("a/b", "c d", None)),
        ("hf:a/b@0f3e", ("a/b", None, "0f3e")),
        ("hf:a/b@v1.0:c", ("a/b", "c", "v1.0")),
        ("hf:/x@y/b", ("/x@y/b", None, None)),
    ],
)
def test_a_name_has_a_revision_and_a_configuration(name, parts, monkeypatch):
    asked = []

    def builder(path: str, configuration: str | None, revision: str | None) -> SimpleNamespace:
        asked.append((path, configuration, revision))
        return SimpleNamespace(name="json", as_streaming_dataset=lambda split: Rows([]))

    fake = SimpleNamespace(load_dataset_builder=builder)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert len(hub_files(name, 100)) == 1
    assert asked == [parts]
    assert on_hub(name)
    assert not on_hub("hf:")


class Rows(list):
    """What `datasets` gives of files that are not Parquet."""

    num_shards = 1

    def shard(self, num_shards: int, index: int) -> "Rows":
        assert (num_shards, index) == (1, 0)
        return self


def test_ids_and_entries_of_before_are_those_of_the_default():
    assert "hub_bytes" not in RunConfig().model_dump(exclude_defaults=True).get("data", {})
    corpus, config = open_corpus("hf:some/dataset"), DataConfig(corpus="hf:some/dataset")
    assert cache._entry_name(config, corpus) == "hf-bytes-8f918790bd8d"
    more = config.model_copy(update={"hub_bytes": 10**10})
    assert cache._entry_name(more, corpus) != "hf-bytes-8f918790bd8d"
    elsewhere = DataConfig(corpus="synthetic", hub_bytes=10**10)
    assert cache._entry_name(elsewhere, open_corpus("synthetic")) == cache._entry_name(
        DataConfig(corpus="synthetic"), open_corpus("synthetic")
    )


# --- with the loader of datasets

LOAD = """
import os, signal, sys
from pathlib import Path
import datasets
from paper_repro.config import DataConfig
from paper_repro.data import cache, hub, load_dataset, sorted_documents, streamed
for name, value in {bounds}.items():
    setattr(sorted_documents, name, value)
cache.ENTROPY_TOKENS = 2**16
{then}
config = DataConfig(corpus=sys.argv[1], tokenizer=sys.argv[3], hub_bytes=10**10)
dataset = load_dataset(config, Path(sys.argv[2]))
status = Path("/proc/self/status").read_text()  # getrusage's peak is the parent's too
print(dataset.corpus_hash, 1024 * int(status.partition("VmHWM:")[2].split()[0]))
"""
#: What is free is given back, so that a peak is of what was held.
PLAIN_ALLOCATORS = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
KILL_READING = """
write, parts = sorted_documents.write_atomically, []
def write_atomically(path, content):
    write(path, content)
    parts.append(path)
    if len(parts) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
sorted_documents.write_atomically = write_atomically
"""
KILL_TOKENISING = """
write = streamed.write_json
def write_json(path, content):
    if content["range"] == 3:  # the tokens of the third range are on disk, the note is not
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content)
streamed.write_json = write_json
"""


def start(
    corpus: str,
    cache_dir: Path,
    then: str = "",
    tokenizer: str = "bytes",
    bounds: dict[str, int] = SMALL,
) -> subprocess.Popen:
    code = LOAD.format(bounds=bounds, then=then)
    command = [sys.executable, "-c", code, corpus, str(cache_dir), tokenizer]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=PLAIN_ALLOCATORS)


def finished(child: subprocess.Popen) -> tuple[str, int]:
    """Hash of the tokens, and peak memory in bytes."""
    digest, peak = child.communicate(timeout=900)[0].split()
    return digest, int(peak)


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> str:
    """Six files, each of a source of its own, 2.4 MB in all."""
    pytest.importorskip("datasets", reason="the hf extra is not installed")
    files = [texts_of(source, 4e5) for source in range(6)]
    return write_repository(tmp_path_factory.mktemp("hub") / "repository", files)


def test_each_file_gives_an_equal_share_from_its_beginning(repository, tmp_path):
    """A sixth of 600 kB of each, so that every source is there with the same weight."""
    files = [list(texts) for texts in hub_files(repository, 600_000)]
    sizes = [sum(len(text.encode()) for text in texts) for texts in files]
    assert all(95_000 < size <= 100_000 for size in sizes)
    for source, texts in enumerate(files):
        assert texts == texts_of(source, 4e5)[: len(texts)]
    config = DataConfig(corpus=repository, hub_bytes=600_000, context=16)
    dataset = load_dataset(config, tmp_path)
    text = bytes(dataset.train.astype(np.uint8)) + bytes(dataset.validation.astype(np.uint8))
    found = Counter(part[:9] for part in text.split(b"\0"))
    assert {source: found[f"source {source}:".encode()] for source in range(6)} == {
        source: len(texts) for source, texts in enumerate(files)
    }


@pytest.mark.parametrize(
    "then",
    [
        pytest.param(KILL_READING, id="reading"),
        pytest.param(KILL_TOKENISING, id="tokenising", marks=pytest.mark.slow),
    ],
)
def test_a_killed_build_is_gone_on_with_and_gives_the_same_tokens(repository, then, tmp_path):
    undisturbed, _ = finished(start(repository, tmp_path / "whole", tokenizer="bpe:400"))
    child = start(repository, tmp_path / "killed", then, "bpe:400")
    child.communicate(timeout=300)
    assert child.returncode == -signal.SIGKILL
    (workspace,) = (tmp_path / "killed").iterdir()
    parts = {path: path.stat().st_ino for path in (workspace / "text").glob("0*.parquet")}
    assert len(parts) >= 3
    spared = f"""
kept = {[path.name for path in parts]}
write = sorted_documents._write_part
def write_part(documents, path, stop):
    assert path.name not in kept
    write(documents, path, stop)
sorted_documents._write_part = write_part
"""
    assert finished(start(repository, tmp_path / "killed", spared, "bpe:400"))[0] == undisturbed
    (entry,) = (tmp_path / "killed").iterdir()
    (whole,) = (tmp_path / "whole").iterdir()
    assert entry.name == whole.name
    assert tokens_of(entry) == tokens_of(whole)


def test_two_processes_read_the_hub_once(repository, tmp_path):
    log = f"""
ask = hub.hub_files
def hub_files(*arguments):
    os.write(os.open({str(tmp_path / "asked")!r}, os.O_CREAT | os.O_APPEND | os.O_WRONLY), b"x")
    return ask(*arguments)
from paper_repro.data import corpora
corpora.hub_files = hub_files
"""
    children = [start(repository, tmp_path / "cache", log) for _ in range(2)]
    hashes = {finished(child)[0] for child in children}
    assert len(hashes) == 1
    assert (tmp_path / "asked").read_text() == "x"
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_memory_does_not_grow_with_the_corpus(repository, tmp_path):
    """Ten times the text, 22 MB more, in files and row groups of the same kind.

    Held in memory, its characters would be 22 MB and its tokens 43 MB more. What is held is a run
    of each of four readers, or a range: 2 MB, some times over in Python's and Arrow's hands.
    """
    texts = [texts_of(source, 4e6) for source in range(6)]
    larger = write_repository(tmp_path / "larger", texts)
    peaks = [
        finished(start(corpus, tmp_path / "cache", bounds=MEDIUM))[1]
        for corpus in (repository, larger)
    ]
    assert peaks[1] - peaks[0] < 30e6


def test_a_file_without_the_column_is_named(tmp_path):
    pytest.importorskip("datasets", reason="the hf extra is not installed")
    (tmp_path / "rows").mkdir()
    pa.parquet.write_table(pa.table({"body": ["x"]}), tmp_path / "rows" / "train-0.parquet")
    (texts,) = hub_files(f"hf:{tmp_path}/rows", 100)
    with pytest.raises(ConfigError, match="has no column 'text' of strings"):
        list(texts)


@pytest.mark.slow
def test_a_hundred_megabytes_are_read_tokenised_and_gone_on_with(tmp_path):
    """With the bounds as they are, which 100 MB do not fill: fewer kills, but the whole way."""
    pytest.importorskip("datasets", reason="the hf extra is not installed")
    texts = [
        [f"{copy} {text}" for copy in range(3) for text in texts_of(source, 4.2e6)]
        for source in range(8)
    ]
    corpus = write_repository(tmp_path / "repository", texts)
    bounds = {"RANGE_BYTES": 2**23}
    whole, peak = finished(start(corpus, tmp_path / "whole", "", "bpe:4096", bounds))
    child = start(corpus, tmp_path / "killed", KILL_TOKENISING, "bpe:4096", bounds)
    child.communicate(timeout=600)
    assert child.returncode == -signal.SIGKILL
    assert finished(start(corpus, tmp_path / "killed", "", "bpe:4096", bounds))[0] == whole
    assert peak < 1.5e9
