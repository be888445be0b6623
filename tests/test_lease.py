"""Claims between real processes: one winner, dead owners are followed, living ones respected."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from paper_repro.files import write_json
from paper_repro.records import lease
from paper_repro.records.lease import expire_lease, is_leased, owner_of, take_lease

HOLD = """
import sys, time
from pathlib import Path
from paper_repro.records.lease import take_lease
claim = take_lease(Path(sys.argv[1]))
print("took" if claim else "refused", flush=True)
time.sleep(float(sys.argv[2]))
"""
ROOT = Path(__file__).parent.parent


def holder(directory: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(directory), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_a_claim_excludes_others_until_released(tmp_path):
    claim = take_lease(tmp_path)
    assert claim is not None
    assert is_leased(tmp_path)
    assert take_lease(tmp_path) is None
    claim.release()
    assert not is_leased(tmp_path)
    assert take_lease(tmp_path) is not None


def test_of_many_takers_one_wins(tmp_path):
    for attempt in range(20):
        directory = tmp_path / str(attempt)
        with ThreadPoolExecutor(8) as pool:
            taken = list(pool.map(lambda _, d=directory: take_lease(d), range(8)))
        assert sum(claim is not None for claim in taken) == 1


def test_a_living_process_keeps_its_claim(tmp_path):
    with holder(tmp_path, 30) as process:
        assert process.stdout.readline() == "took\n"
        assert take_lease(tmp_path) is None
        process.kill()


def test_a_killed_process_is_followed_by_exactly_one(tmp_path):
    with holder(tmp_path, 30) as process:
        assert process.stdout.readline() == "took\n"
        process.send_signal(signal.SIGKILL)
    assert not is_leased(tmp_path)
    followers = [holder(tmp_path, 3) for _ in range(4)]
    answers = sorted(process.communicate()[0] for process in followers)
    assert answers == ["refused\n"] * 3 + ["took\n"]


def test_a_reused_process_id_is_not_the_owner(tmp_path):
    claim = take_lease(tmp_path)
    identity = lease._identity() | {"started": "1"}
    write_json(claim.path, identity)
    assert not is_leased(tmp_path)


@pytest.mark.parametrize(("age", "alive"), [(0.0, True), (2 * lease.STALE_SECONDS, False)])
def test_on_another_host_the_heartbeat_decides(tmp_path, age, alive):
    claim = take_lease(tmp_path)
    write_json(claim.path, lease._identity() | {"host": "elsewhere"})
    then = time.time() - age
    os.utime(claim.path, (then, then))
    assert is_leased(tmp_path) is alive
    claim.touch()
    assert is_leased(tmp_path)


def test_an_owner_that_was_taken_over_sees_it(tmp_path):
    first = take_lease(tmp_path)
    write_json(first.path, lease._identity() | {"pid": 2**22 + 1})
    second = take_lease(tmp_path)
    assert second is not None
    assert second.holds()
    assert not first.holds()
    first.release()
    assert is_leased(tmp_path)


@pytest.fixture
def job(monkeypatch):
    """This process is the worker of SLURM job 17."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "17")


def _on_another_host(claim):
    write_json(claim.path, lease._identity() | {"host": "elsewhere"})


def test_a_requeued_job_takes_its_own_claim_over_on_another_host(tmp_path, job, monkeypatch):
    first = take_lease(tmp_path)
    _on_another_host(first)
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    assert take_lease(tmp_path) is None
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert take_lease(tmp_path) is None  # the job was not queued again: something is odd
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    second = take_lease(tmp_path)
    assert second is not None
    assert second.holds()
    assert not first.holds()
    assert first.requeued_while_alive()


def test_the_first_life_of_a_requeued_job_takes_nothing_from_the_second(tmp_path, job, monkeypatch):
    """Its node's slurmd died, so it lives on, and SLURM started the job again elsewhere."""
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    _on_another_host(take_lease(tmp_path))
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    assert take_lease(tmp_path) is None


def test_nodes_of_slurm_are_hosts_of_their_own(tmp_path, job, monkeypatch):
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    claim = take_lease(tmp_path)
    write_json(claim.path, lease._identity() | {"pid": 2**22 + 1})
    monkeypatch.setenv("SLURMD_NODENAME", "n2")
    assert take_lease(tmp_path) is None
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    assert take_lease(tmp_path) is not None


def test_an_owner_that_wakes_up_after_two_more_owners_does_not_hold(tmp_path):
    """The second gave the run back: the first must not be in force again, nor its number."""
    first = take_lease(tmp_path)
    write_json(first.path, lease._identity() | {"pid": 2**22 + 1})
    take_lease(tmp_path).release()
    assert not first.holds()
    third = take_lease(tmp_path)
    assert third.holds()
    assert not first.holds()
    first.touch()
    first.release()
    assert third.holds()
    assert is_leased(tmp_path)


def test_a_launch_within_a_job_is_not_the_job(tmp_path, job, monkeypatch):
    monkeypatch.delenv("SUBMITIT_EXECUTOR")
    _on_another_host(take_lease(tmp_path))
    assert owner_of(tmp_path).job is None
    assert take_lease(tmp_path) is None


def test_the_claim_of_a_job_that_is_gone_can_be_expired(tmp_path, job, monkeypatch):
    claim = take_lease(tmp_path)
    _on_another_host(claim)
    monkeypatch.delenv("SUBMITIT_EXECUTOR")
    assert owner_of(tmp_path).job == "17"
    expire_lease(tmp_path, "16")
    assert owner_of(tmp_path).alive
    expire_lease(tmp_path, "17")
    assert not owner_of(tmp_path).alive
    claim.touch()  # it was alive after all
    assert owner_of(tmp_path).alive


def test_a_claim_written_before_jobs_and_logs_were_in_it(tmp_path):
    claim = take_lease(tmp_path)
    identity = lease._identity()
    del identity["job"]
    write_json(claim.path, identity)
    assert owner_of(tmp_path) == lease.Owner(alive=True, job=None, log=None)


def test_a_claim_tells_where_its_owner_logs(tmp_path):
    claim = take_lease(tmp_path, log="17_0_log.err")
    assert claim.log == owner_of(tmp_path).log == "17_0_log.err"
