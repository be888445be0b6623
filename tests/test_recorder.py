"""What a run leaves in its record: resumed to the bit, damaged, failed, taken over, described."""

import json
import os
from dataclasses import replace
from functools import partial

import pytest
import torch
from support.runs import small_config, train

from paper_repro.config import Execution
from paper_repro.files import write_json
from paper_repro.recording.bundle import train_bundle
from paper_repro.records import Record
from paper_repro.records.lease import Identity, LeasedRun, take_lease
from paper_repro.records.provenance import code_files, hash_code
from paper_repro.training import RunLostError


def test_stopped_and_resumed_equals_undisturbed(tmp_path):
    # 120 steps: a line of metrics every two, so that stops fall between lines
    config = small_config(train={"tokens": 120 * 64})
    whole = train(config, tmp_path / "whole")
    train(config, tmp_path / "parts", stop_after=6)
    parts = train(config, tmp_path / "parts", stop_after=4)
    assert [line["step"] for line in parts.metrics()] == [1, 3, 5, 7, 9]
    assert parts.status() is None
    assert parts.checkpoint_path.exists()
    train(config, tmp_path / "parts")
    assert parts.metrics_path.read_bytes() == whole.metrics_path.read_bytes()
    assert parts.status().val_loss == whole.status().val_loss
    assert not parts.checkpoint_path.exists()


def test_crash_after_a_checkpoint_leaves_no_double_lines(tmp_path):
    """Lines written after the checkpoint that survived a kill are written again, once."""
    config = small_config()
    whole = train(config, tmp_path / "whole")
    record = train(config, tmp_path / "killed", stop_after=6)
    with record.metrics_path.open("a") as file:
        for step in (7, 8):
            file.write(json.dumps({"step": step, "train_loss": 9.9}) + "\n")
        file.write('{"step": 9, "train_')
    train(config, tmp_path / "killed")
    assert record.metrics_path.read_bytes() == whole.metrics_path.read_bytes()


@pytest.mark.parametrize(
    "damage", ["truncated", "cut short", "garbage", "empty", "other data", "half"]
)
def test_damaged_checkpoint_starts_anew(tmp_path, damage):
    config = small_config()
    whole = train(config, tmp_path / "whole")
    record = train(config, tmp_path / "run", stop_after=6)
    content = record.checkpoint_path.read_bytes()
    if damage == "half":  # the model loads, the optimiser does not
        checkpoint = torch.load(record.checkpoint_path, weights_only=True)
        checkpoint["model"]["embedding.weight"].zero_()
        torch.save(checkpoint | {"optimizer": {}}, record.checkpoint_path)
    elif damage == "other data":
        checkpoint = torch.load(record.checkpoint_path, weights_only=True)
        checkpoint["model"]["embedding.weight"].zero_()  # going on from here would show
        torch.save(checkpoint | {"corpus_hash": "other"}, record.checkpoint_path)
    else:
        broken = {
            "truncated": content[: len(content) // 2],
            "cut short": content[:20_000],  # torch says so in another way
            "garbage": b"x" * 100,
            "empty": b"",
        }
        record.checkpoint_path.write_bytes(broken[damage])
    train(config, tmp_path / "run")
    assert record.metrics_path.read_bytes() == whole.metrics_path.read_bytes()


def test_metrics_damaged_before_the_checkpoint_start_anew(tmp_path):
    config = small_config()
    whole = train(config, tmp_path / "whole")
    record = train(config, tmp_path / "run", stop_after=6)
    lines = record.metrics_path.read_text().splitlines(keepends=True)
    record.metrics_path.write_text("".join(lines[:2]) + lines[2][:9])
    train(config, tmp_path / "run")
    assert record.metrics_path.read_bytes() == whole.metrics_path.read_bytes()


@pytest.mark.parametrize("damage", [b"\xff\xfe\n", b'{"loss": 1}\n', b"7\n", b'{"step": 9, "tra'])
def test_what_is_no_line_of_metrics_ends_the_list(tmp_path, damage):
    config = small_config()
    whole = train(config, tmp_path / "whole")
    record = train(config, tmp_path / "run", stop_after=6)
    with record.metrics_path.open("ab") as file:
        file.write(damage)
    assert [line["step"] for line in record.metrics()] == [1, 2, 3, 4, 5, 6]
    train(config, tmp_path / "run")
    assert record.metrics_path.read_bytes() == whole.metrics_path.read_bytes()


def test_a_step_written_by_two_owners_is_one_line(tmp_path):
    record = Record(tmp_path)
    lines = [{"step": step, "train_loss": 1.0 / step} for step in (1, 2, 3, 4)]
    for line in [*lines[:2], lines[3], lines[1], *lines[2:]]:
        record.append_metrics(line)
    assert record.metrics() == lines


def test_divergence_is_an_outcome(tmp_path):
    record = train(small_config(hyperparameters={"lr": 1e5}), tmp_path)
    status = record.status()
    assert status.status == "diverged"
    assert status.val_loss is None
    assert status.step < status.steps
    assert record.finished
    assert record.metrics()


def test_failure_is_recorded_with_its_reason_and_tried_again(tmp_path):
    too_long = small_config(data={"corpus": "sotu"}, train={"tokens": 10**9})
    record = train(too_long, tmp_path)
    assert record.status().status == "failed"
    assert "max_epochs" in record.status().error
    assert record.status().log == "worker.log"
    assert "Traceback" in record.error_path.read_text()
    assert not record.finished


def test_a_worker_that_was_taken_over_leaves_the_record_alone(tmp_path):
    config, record = small_config(), Record(tmp_path)
    record.create(config)
    claim = take_lease(tmp_path)
    steps = []

    def taken_over_at_the_fifth_step():
        steps.append(record.metrics())
        if len(steps) == 5:
            write_json(claim.path, {"host": "elsewhere", "pid": 1, "started": "1"})
            os.utime(claim.path, (0, 0))
            assert take_lease(tmp_path) is not None
        return False

    run = LeasedRun(config, record, claim)
    train_bundle([run], Execution(device="cpu"), taken_over_at_the_fifth_step)
    assert len(steps) == 5
    assert record.metrics() == steps[-1]
    assert record.status() is None


def test_a_worker_that_its_own_requeued_job_took_over_ends(tmp_path):
    """The cluster does not know of this process any more: it must take no other run."""
    config, record = small_config(), Record(tmp_path)
    record.create(config)
    worker = Identity(host="n1", job="17")
    lease = take_lease(tmp_path, identity=worker)

    def requeue():
        take_lease(tmp_path, identity=replace(worker, host="n2", restarts=1))
        return False

    with pytest.raises(RunLostError):
        train_bundle([LeasedRun(config, record, lease)], Execution(device="cpu"), requeue)


@pytest.mark.parametrize("taken_over", [False, True])
def test_an_error_is_recorded_by_the_owner_only(tmp_path, taken_over):
    config, record = small_config(), Record(tmp_path)
    record.create(config)
    claim = take_lease(tmp_path)

    def fail():
        if taken_over:
            write_json(claim.path, {"host": "elsewhere", "pid": 1, "started": "1"})
            os.utime(claim.path, (0, 0))
            assert take_lease(tmp_path) is not None
        raise RuntimeError("broken")

    train_bundle([LeasedRun(config, record, claim)], Execution(device="cpu"), fail)
    assert (record.status() is None) is taken_over
    assert record.error_path.exists() is not taken_over


def test_record_says_what_a_reader_needs(tmp_path):
    record = train(small_config(), tmp_path)
    run = json.loads(record.run_path.read_text())
    assert run["data"]["corpus_hash"]
    assert 0 < run["data"]["bigram_entropy"] < run["data"]["unigram_entropy"]
    recorded, built = run["versions"]["torch"], torch.__version__  # with what it was built for
    assert recorded.partition("+")[0] == built.partition("+")[0]
    assert {group["tensor_class"] for group in run["groups"]} >= {"embedding", "qk_norm"}
    assert record.status().tokens == 12 * 64
    assert record.status().tokens_per_second > 0
    assert record.status().peak_host_memory_bytes >= record.status().peak_memory_bytes > 1e8
    assert record.config() == small_config()


def test_record_says_by_which_code_the_steps_were_taken(tmp_path, monkeypatch, caplog):
    hashes = iter(["aaa", "aaa", "bbb", "aaa"])
    for stop_after in (2, 2, 2, 99):
        monkeypatch.setattr("paper_repro.records.provenance.code_hash", partial(str, next(hashes)))
        record = train(small_config(), tmp_path, stop_after=stop_after)
    run = json.loads(record.run_path.read_text())
    assert run["code_hash"] == "aaa"
    assert [code["code_hash"] for code in run["earlier_code"]] == ["aaa", "bbb"]
    assert caplog.text.count("resumed by other code") == 2


def test_a_run_from_the_start_has_no_earlier_code(tmp_path, monkeypatch):
    record = train(small_config(), tmp_path, stop_after=2)
    first = json.loads(record.run_path.read_text())
    assert (first["code_hash"], first["earlier_code"]) == (hash_code(code_files()), [])
    record.checkpoint_path.unlink()
    monkeypatch.setattr("paper_repro.records.provenance.code_hash", lambda: "other")
    run = json.loads(train(small_config(), tmp_path).run_path.read_text())
    assert (run["code_hash"], run["earlier_code"]) == ("other", [])


def test_a_record_says_in_which_precisions_its_steps_were_taken(tmp_path, caplog):
    ways = [Execution(device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16", "bfloat16")]
    for way in ways:
        record = train(small_config(), tmp_path, way, stop_after=2)
    info = record.run_info()
    assert info.execution["dtype"] == "bfloat16"
    assert [how["dtype"] for how in info.earlier_execution] == ["float32"]
    assert caplog.text.count("several precisions") == 2
    record.checkpoint_path.unlink()
    assert train(small_config(), tmp_path, ways[0]).run_info().earlier_execution == []


def test_code_that_the_record_no_longer_knows_is_not_hidden(tmp_path):
    record = train(small_config(), tmp_path, stop_after=2)
    record.run_path.write_text("{")
    run = json.loads(train(small_config(), tmp_path).run_path.read_text())
    assert run["earlier_code"] == [{"code_hash": None, "git_revision": None}]
