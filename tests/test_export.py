"""`python -m analysis.export`: records for TensorBoard and Weights & Biases."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.synthetic_sweep import run_config, write_run

from analysis import export
from paper_repro.records import Record

STEPS = (200, 400)
"""Of the runs that `write_run` leaves."""


@pytest.fixture
def command(tmp_path, monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Run the command on `runs` in an empty directory; its exit code and output."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str]:
        code = export.main(["s", "--runs-dir", str(tmp_path / "runs"), *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return command


def write_some(runs: Path) -> tuple[Record, Record]:
    """A run that is done, and one that goes on after half of its steps."""
    done, going = run_config("sp", 64, -6, 0), run_config("complete_d", 64, -6, 0)
    for config in (done, going):
        write_run(runs, "s", config, 1.5)
    records = [Record(runs / "s" / config.run_id) for config in (done, going)]
    records[1].rewind_metrics(STEPS[0])
    records[1].status_path.rename(records[1].directory / "later.json")
    return records[0], records[1]


def go_on(record: Record) -> None:
    """The rest of the run that goes on."""
    record.append_metrics({**record.metrics()[0], "step": STEPS[1], "val_loss": None})
    (record.directory / "later.json").rename(record.status_path)


def events(directory: Path) -> dict[str, list[tuple[int, Any]]]:
    """Step and value of everything in the event files of a run, by tag."""
    loader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_file_loader",
        reason="needs the extra tensorboard",
    )
    found: dict[str, list[tuple[int, Any]]] = {}
    for path in sorted(directory.glob("events.*")):
        for event in loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                number = value.tensor.float_val[0] if value.tensor.float_val else value.metadata
                found.setdefault(value.tag, []).append((event.step, number))
    return found


def files(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def tensorboard() -> None:
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")


@pytest.mark.usefixtures("tensorboard")
def test_a_run_is_a_run_of_tensorboard(command, tmp_path):
    done, _ = write_some(tmp_path / "runs")
    assert command("--to", "tensorboard") == (0, "exported/tensorboard: 3 new lines of metrics\n")
    found = events(tmp_path / "exported/tensorboard/s" / done.directory.name)
    assert found["train_loss"] == [(200, 2.0), (400, 2.0)]
    assert [step for step, _ in found["val_loss"]] == list(STEPS)
    assert found["tokens"] == [(200, 200 * 2048), (400, 400 * 2048)]
    assert found["final/val_loss"] == [(400, 1.5)]
    hparams = str(found["_hparams_/session_start_info"])
    assert "hyperparameters.lr" in hparams
    assert "scaling.parameterization" in hparams


@pytest.mark.usefixtures("tensorboard")
def test_an_export_goes_on_where_the_last_one_ended(command, tmp_path):
    _, going = write_some(tmp_path / "runs")
    output = tmp_path / "exported/tensorboard/s"
    command("--to", "tensorboard")
    before = files(output)
    assert "final/val_loss" not in events(output / going.directory.name)
    assert command("--to", "tensorboard")[1].endswith(": 0 new lines of metrics\n")
    assert files(output) == before
    go_on(going)
    assert command("--to", "tensorboard")[1].endswith(": 1 new lines of metrics\n")
    found = events(output / going.directory.name)
    assert [step for step, _ in found["train_loss"]] == list(STEPS)
    assert math.isnan(found["val_loss"][1][1])  # null in the record
    assert len(found["_hparams_/session_start_info"]) == 1
    before = files(output)
    assert command("--to", "tensorboard")[1].endswith(": 0 new lines of metrics\n")
    assert files(output) == before


@pytest.mark.usefixtures("tensorboard")
def test_what_a_kill_cut_off_is_written_again(command, tmp_path):
    done, _ = write_some(tmp_path / "runs")
    output = tmp_path / "exported/tensorboard/s" / done.directory.name
    command("--to", "tensorboard")
    whole = {tag: dict(points) for tag, points in events(output).items()}
    (path,) = output.glob("events.*")
    content = path.read_bytes()
    for kept in range(len(content) - 1, len(content) // 2, -97):
        for other in output.glob("events.*"):
            other.unlink()
        path.write_bytes(content[:kept])
        command("--to", "tensorboard")
        scalars = {tag: dict(points) for tag, points in events(output).items()}
        assert {tag: whole[tag] for tag in scalars} == scalars
        assert scalars.keys() == whole.keys()


@pytest.mark.usefixtures("tensorboard")
def test_following_ends_when_all_runs_have_ended(command, tmp_path, monkeypatch):
    _, going = write_some(tmp_path / "runs")
    failed = Record(tmp_path / "runs/s" / run_config("sp", 64, -5, 0).run_id)
    failed.create(run_config("sp", 64, -5, 0))  # has begun nothing yet
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 1:
            go_on(going)
        if len(looks) == 2:
            failed.status_path.write_text('{"status": "failed"}', encoding="utf-8")

    monkeypatch.setattr(export, "time", SimpleNamespace(sleep=sleep))
    code, out = command("--to", "tensorboard", "--follow", "7")
    assert (code, looks) == (0, [7.0, 7.0])
    assert out.endswith(": 4 new lines of metrics\n")


def history(directory: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows and the summary of an offline run of Weights & Biases."""
    from wandb.proto.wandb_internal_pb2 import Record as Message

    (path,) = directory.glob("*.wandb")
    rows: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for data in messages(path.read_bytes()):
        message = Message.FromString(data)
        if message.HasField("history"):
            rows.append(_items(message.history.item))
        if message.HasField("summary"):
            summary |= _items(message.summary.update)
    return rows, summary


def messages(content: bytes) -> Iterator[bytes]:
    """The messages of a file in LevelDB's log format: blocks of 32 KiB, which they may cross."""
    place, message = 7, b""  # after W&B's own header
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        message += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield message
            message = b""


def _items(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_a_run_is_an_offline_run_of_weights_and_biases(command, tmp_path):
    pytest.importorskip("wandb", reason="needs the extra wandb")
    done, going = write_some(tmp_path / "runs")
    output = tmp_path / "exported/wandb"
    offline = ("--to", "wandb", "--offline")
    assert command(*offline)[1].endswith("exported/wandb: 3 new lines of metrics\n")
    (directory,) = output.glob(f"wandb/offline-run-*-s-{done.directory.name}")
    rows, summary = history(directory)
    assert [row["_step"] for row in rows] == list(STEPS)
    assert [row["train_loss"] for row in rows] == [2.0, 2.0]
    assert (summary["final/val_loss"], summary["status"]) == (1.5, "done")
    assert command(*offline)[1].endswith(": 0 new lines of metrics\n")
    go_on(going)
    assert command(*offline)[1].endswith(": 2 new lines of metrics\n")
    (directory,) = output.glob(f"wandb/offline-run-*-s-{going.directory.name}")
    rows, _ = history(directory)
    assert [row["_step"] for row in rows] == list(STEPS)
    assert len(list(output.glob("wandb/offline-run-*"))) == 2


@pytest.mark.parametrize(
    ("package", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")]
)
def test_a_missing_package_is_told_in_one_line(command, tmp_path, monkeypatch, package, module):
    write_some(tmp_path / "runs")
    monkeypatch.setitem(sys.modules, module, None)
    code, out = command("--to", package)
    assert (code, out.count("\n")) == (2, 1)
    assert f"pip install -e '.[{package}]'" in out


@pytest.mark.usefixtures("tensorboard")
def test_missing_records_and_a_second_export_are_told_in_one_line(command, tmp_path):
    code, out = command("--to", "tensorboard")
    assert (code, out.count("\n")) == (2, 1)
    assert "no records of sweep 's'" in out
    write_some(tmp_path / "runs")
    with export._alone(tmp_path / "exported/tensorboard"):
        code, out = command("--to", "tensorboard")
    assert (code, out) == (2, "error: exported/tensorboard: another export is writing there\n")
