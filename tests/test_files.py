"""Files that are whole or absent, and strict YAML."""

import math

import pytest
from support.runs import small_config

from paper_repro.config import DEFAULTS_VERSION, RunConfig
from paper_repro.errors import ConfigError
from paper_repro.files import (
    parse_yaml,
    read_json,
    read_yaml,
    read_yaml_sections,
    write_atomically,
    write_json,
    write_yaml,
)
from paper_repro.records import Record, Status


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


@pytest.mark.parametrize(
    "text",
    [
        "model:\n  width: 32\n  list:\n  - lr\n  - eps\nseed: 3\nempty: {}\n",
        "model: {width: 32}\nseed: 3",  # no line's end
        "{model: {width: 32}, seed: 3}\n",
        "a: &x {b: 1}\nc: *x\n",
        "# a comment\nmodel:\n\n  width: 32\n",
        "list:\n- a\n- b\n",
        "text: 'one\n\n  two'\nseed: 1\n",
        "---\nseed: 1\n",
        "",
    ],
)
def test_sections_read_one_by_one_are_the_file(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    assert read_yaml_sections(tmp_path / "x.yaml") == read_yaml(tmp_path / "x.yaml")


@pytest.mark.parametrize("text", ["seed: 1\nseed: 2\n", "seed: 1\nmodel: [1\n", "seed: 1\n a: 2\n"])
def test_sections_have_the_errors_of_the_file(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError) as whole:
        read_yaml(tmp_path / "x.yaml")
    with pytest.raises(ConfigError) as sections:
        read_yaml_sections(tmp_path / "x.yaml")
    assert str(sections.value) == str(whole.value)


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
    ("text", "value"),
    [
        *(("010", 10), ("08", 8), ("-0", 0), ("0o10", 8), ("0x1F", 31), ("1_000", 1000)),
        *((".5e3", 500.0), ("+.5", 0.5), ("5.", 5.0), ("1_0.5", 10.5), ("-.inf", -math.inf)),
        *(("1:30", "1:30"), ("12:00:00", "12:00:00"), ("0b1", "0b1"), ("1__0", "1__0")),
        *(("yes", "yes"), ("no", "no"), ("off", "off"), ("True", True), ("~", None)),
        *(("2020-13-45", "2020-13-45"), ("1e", "1e"), ("0o9", "0o9"), ("", None)),
    ],
)
def test_plain_scalars_are_those_of_yaml_1_2(text, value):
    """Of its core schema: no base 8 by a zero in front, no base 60, no dates."""
    read = parse_yaml(f"a: {text}", "x")["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "text", ["010", "08", "1e5", "yes", "1:30", "0o7", ".5", "<<", "2020-01-01"]
)
def test_a_text_that_looks_like_a_number_stays_one(text, tmp_path):
    write_yaml(tmp_path / "x.yaml", {"a": text})
    assert read_yaml(tmp_path / "x.yaml") == {"a": text}


def test_a_zero_has_no_sign():
    """-0.0 would be another run."""
    zero, negative = (
        RunConfig.model_validate({"hyperparameters": {"weight_decay": value}, "train": train})
        for value, train in ((0.0, {"final_fraction": 0.0}), (-0.0, {"final_fraction": -0.0}))
    )
    assert zero.run_id == negative.run_id


def test_an_editors_byte_order_mark_is_no_content(tmp_path):
    """A finished run would be trained again."""
    (tmp_path / "x.yaml").write_text("\ufeffa: 1", encoding="utf-8")
    (tmp_path / "x.json").write_text('\ufeff{"a": 1}', encoding="utf-8")
    assert read_yaml(tmp_path / "x.yaml") == read_json(tmp_path / "x.json") == {"a": 1}


def test_a_folder_in_the_place_of_a_file_is_no_content(tmp_path):
    (tmp_path / "status.json").mkdir()
    assert read_json(tmp_path / "status.json") is None


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
    record.finish(Status(status="done", val_loss=1.0))
    assert record.finished
    text = record.status_path.read_text()
    record.status_path.write_text(text[: len(text) // 2])
    assert record.status() is None
    record.finish(Status(status="failed", error="no"))
    assert not record.finished


def test_run_ids_depend_on_content_alone():
    assert small_config(seed=1).run_id == small_config(seed=1).run_id
    assert small_config(seed=1).run_id != small_config(seed=2).run_id
    same_shape = small_config(hyperparameters={"lr": 0.5}, scaling={"parameterization": "sp"})
    assert same_shape.bundle == small_config(seed=1).bundle
    assert small_config(model={"width": 24}).bundle != small_config().bundle


def test_a_new_field_at_its_default_renames_no_run():
    class Grown(RunConfig):
        another: int = 7

    assert Grown().run_id == RunConfig().run_id
    assert Grown(another=8).run_id != RunConfig().run_id


def test_ids_of_the_defaults_version():
    """An id is of what differs from the defaults, so a changed default changes what an id means.

    Legitimate reason to update: a default was changed on purpose, with a new `DEFAULTS_VERSION`.
    """
    assert DEFAULTS_VERSION == 1
    assert RunConfig().model_dump(mode="json") == {
        "model": {
            "width": 64,
            "depth": 2,
            "factory": None,
            "mapping": "llama",
            "tied": False,
            "head_dim": 16,
            "mlp": "gelu",
            "mlp_ratio": 4,
            "qk_norm": True,
            "biases": False,
        },
        "data": {
            "corpus": "sotu",
            "tokenizer": "bytes",
            "context": 128,
            "max_epochs": 1,
            "validation_fraction": 0.1,
            "hub_bytes": 2**30,
        },
        "train": {
            "batch_size": 16,
            "tokens": 819_200,
            "schedule": "cosine",
            "warmup_fraction": 0.1,
            "final_fraction": 0.1,
            "decay_fraction": 0.2,
            "decay_shape": "linear",
            "piecewise": {},
            "clip": None,
            "z_loss": 1e-4,
            "evaluations": 4,
            "eval_sequences": 256,
            "eval_set": 0,
        },
        "scaling": {
            "parameterization": "complete_d",
            "base_width": 64,
            "base_depth": 2,
            "base_batch_size": 16,
            "base_tokens": 819_200,
            "alpha": 1.0,
            "beta_rule": "linear",
            "sde_rule": ["lr", "weight_decay", "eps", "one_minus_beta1", "one_minus_beta2"],
        },
        "hyperparameters": {
            "lr": 2**-6,
            "weight_decay": 0.1,
            "beta1": 0.9,
            "beta2": 0.95,
            "eps": 1e-8,
            "init_std": {"embedding": 1.0, "hidden_weight": 0.125, "unembedding": 0.05},
            "residual": 1.0,
            "module_multipliers": {},
            "depth_multipliers": {},
            "layer_multipliers": {},
        },
        "seed": 0,
        "init_seed": None,
    }
    different = RunConfig.model_validate({"model": {"width": 128}, "hyperparameters": {"lr": 0.5}})
    assert (RunConfig().run_id, different.run_id) == ("d1-44136fa355b3", "d1-56fb6cbccb70")


LINE = b'{"step": 1, "tokens": 8, "lr_scale": 1.0, "train_loss": 5.0}'


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (LINE + b"\n" + LINE.replace(b"1", b"2", 1) + b"\n", [1, 2]),
        (LINE + b"\n" + LINE.replace(b"1", b"2", 1)[:20], [1]),
        (LINE + b"\n\xff\xfe\n" + LINE.replace(b"1", b"3", 1), [1]),
        (LINE + b'\n{"step": 2\n"tokens": 16}\n', [1]),  # an object of two lines
        (LINE + b'\n{"tokens": 16}\n' + LINE.replace(b"1", b"3", 1), [1]),
        (LINE + b"\n7\n", [1]),
        (b"", []),
    ],
)
def test_metrics_end_at_the_first_damaged_line(tmp_path, text, steps):
    record = Record(tmp_path)
    record.metrics_path.write_bytes(text)
    assert [line["step"] for line in record.metrics()] == steps


def test_of_a_step_that_was_written_twice_the_later_line_counts(tmp_path):
    record = Record(tmp_path)
    record.metrics_path.write_bytes(LINE + b"\n" + LINE.replace(b"5.0", b"4.0") + b"\n")
    assert [line["train_loss"] for line in record.metrics()] == [4.0]
