"""Cached token files are whole or absent, served again, and rebuilt when damaged."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paper_repro.config import DataConfig
from paper_repro.data import load_dataset
from paper_repro.errors import ConfigError

SYNTHETIC = DataConfig(corpus="synthetic")
LOAD = """
import sys
from pathlib import Path
from paper_repro.config import DataConfig
from paper_repro.data import cache
{break_it}
dataset = cache.load_dataset(DataConfig(corpus="synthetic"), Path(sys.argv[1]))
print(dataset.corpus_hash, int(dataset.train.sum()))
"""


def start_loading(cache_dir: Path, break_it: str = "") -> subprocess.Popen:
    command = [sys.executable, "-c", LOAD.format(break_it=break_it), str(cache_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def entry_of(cache_dir: Path) -> Path:
    (entry,) = (path for path in cache_dir.iterdir() if not path.name.startswith("."))
    return entry


def test_second_load_maps_the_same_files(tmp_path):
    first = load_dataset(SYNTHETIC, tmp_path)
    files = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")}
    second = load_dataset(SYNTHETIC.model_copy(update={"context": 32}), tmp_path)
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")} == files
    assert isinstance(second.train, np.memmap)
    assert second.train.dtype == np.uint16
    assert np.array_equal(first.train, second.train)
    assert (first.context, second.context) == (128, 32)
    for name in ("corpus_hash", "vocab_size", "unigram_entropy", "bigram_entropy"):
        assert getattr(first, name) == getattr(second, name)


@pytest.mark.parametrize("damage", ["truncate", "delete", "manifest", "empty directory"])
def test_damaged_entry_is_rebuilt(tmp_path, damage):
    whole = load_dataset(SYNTHETIC, tmp_path)
    entry = entry_of(tmp_path)
    if damage == "truncate":
        os.truncate(entry / "train.bin", 1000)
    elif damage == "delete":
        (entry / "validation.bin").unlink()
    elif damage == "manifest":
        (entry / "manifest.json").write_text('{"corpus": "synth')
    else:
        for path in entry.iterdir():
            path.unlink()
    again = load_dataset(SYNTHETIC, tmp_path)
    assert again.corpus_hash == whole.corpus_hash
    assert (len(again.train), len(again.validation)) == (3_776_512, 417_792)
    assert list(tmp_path.iterdir()) == [entry]


def test_two_processes_at_once_end_with_one_whole_entry(tmp_path):
    children = [start_loading(tmp_path) for _ in range(2)]
    outputs = {child.communicate(timeout=60)[0] for child in children}
    assert [child.returncode for child in children] == [0, 0]
    dataset = load_dataset(SYNTHETIC, tmp_path)
    assert outputs == {f"{dataset.corpus_hash} {dataset.train.sum()}\n"}
    assert list(tmp_path.iterdir()) == [entry_of(tmp_path)]


def test_the_slower_of_two_builders_serves_the_entry_of_the_faster(tmp_path, monkeypatch):
    from paper_repro.data import cache

    write = cache._write

    def outrun(config, corpus, directory):
        write(config, corpus, directory)
        monkeypatch.setattr(cache, "_write", write)
        load_dataset(SYNTHETIC, tmp_path)  # another builder finishes first
        inodes.append((entry_of(tmp_path) / "train.bin").stat().st_ino)

    inodes: list[int] = []
    monkeypatch.setattr(cache, "_write", outrun)
    load_dataset(SYNTHETIC, tmp_path)
    assert inodes == [(entry_of(tmp_path) / "train.bin").stat().st_ino]
    assert list(tmp_path.iterdir()) == [entry_of(tmp_path)]


def test_a_killed_build_leaves_no_entry(tmp_path):
    suicide = "import os; cache.write_json = lambda *_: os.kill(os.getpid(), 9)"
    child = start_loading(tmp_path, suicide)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert all(path.name.startswith(".building-") for path in tmp_path.iterdir())
    assert len(load_dataset(SYNTHETIC, tmp_path).train) == 3_776_512


def test_other_settings_have_entries_of_their_own(tmp_path):
    more = SYNTHETIC.model_copy(update={"validation_fraction": 0.5})
    lengths = [len(load_dataset(config, tmp_path).train) for config in (SYNTHETIC, more)]
    assert lengths == [922 * 4096, 512 * 4096]
    assert len(list(tmp_path.iterdir())) == 2


def test_cache_directory_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPER_REPRO_CACHE", str(tmp_path / "here"))
    load_dataset(SYNTHETIC)
    assert entry_of(tmp_path / "here").name.startswith("synthetic-bytes-")


def test_cache_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"data cache .* cannot be written"):
        load_dataset(SYNTHETIC, tmp_path / "file")
