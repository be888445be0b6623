"""Files that are whole or absent, and strict YAML."""

import math

import pytest
from conftest import small_config

from paper_repro.errors import ConfigError
from paper_repro.files import parse_yaml, read_json, read_yaml, write_atomically, write_json
from paper_repro.records import Record


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "status.json"
    write_json(path, {"value": 1})

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert read_json(path) == {"value": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["status.json"]


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "x.json", {"value": math.nan})


@pytest.mark.parametrize("text", ["", '{"status": "do', "[1, 2]", "\x00\x00"])
def test_damaged_json_reads_as_none(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    assert read_json(path) is None
    assert read_json(tmp_path / "absent.json") is None


def test_yaml_numbers():
    content = parse_yaml("{a: 1e-8, b: 1E5, c: -2e+3, d: 400_000, e: 1.5e-3, f: e5}", "x")
    assert content == {"a": 1e-8, "b": 1e5, "c": -2000.0, "d": 400000, "e": 1.5e-3, "f": "e5"}


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: [1, 2", "a: !!python/object:os.system x", "a: \x01"]
)
def test_bad_yaml_is_one_line_naming_the_source(text):
    with pytest.raises(ConfigError, match=r"^some\.yaml.*not valid YAML") as error:
        parse_yaml(text, "some.yaml")
    assert "\n" not in str(error.value)


def test_unreadable_yaml_names_the_file(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        read_yaml(tmp_path / "absent.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_yaml(binary)


def test_a_record_reads_back_and_mends_a_damaged_config(tmp_path):
    record, config = Record(tmp_path / "run"), small_config(seed=3)
    record.create(config)
    assert record.config() == config
    record.config_path.write_text("model: {width")
    record.create(config)
    assert record.config() == config


def test_a_damaged_status_is_no_outcome(tmp_path):
    record = Record(tmp_path)
    record.finish("done", val_loss=1.0)
    assert record.finished
    text = record.status_path.read_text()
    record.status_path.write_text(text[: len(text) // 2])
    assert record.status() is None
    record.finish("failed", error="no")
    assert not record.finished


def test_run_ids_depend_on_content_alone():
    assert small_config(seed=1).run_id == small_config(seed=1).run_id
    assert small_config(seed=1).run_id != small_config(seed=2).run_id
    same_shape = small_config(hyperparameters={"lr": 0.5}, scaling={"parameterization": "sp"})
    assert same_shape.bundle_id == small_config(seed=1).bundle_id
    assert small_config(model={"width": 24}).bundle_id != small_config().bundle_id
