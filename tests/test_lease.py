"""Leases between real processes: one winner, dead owners are followed, living ones respected."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from paper_repro.files import write_json
from paper_repro.records.lease import (
    STALE_SECONDS,
    Identity,
    Owner,
    expire_lease,
    is_leased,
    owner_of,
    take_lease,
)
from slurm.worker import identity

HOLD = """
import sys, time
from pathlib import Path
from paper_repro.records.lease import take_lease
lease = take_lease(Path(sys.argv[1]))
print("took" if lease else "refused", flush=True)
time.sleep(float(sys.argv[2]))
"""
ROOT = Path(__file__).parent.parent


def holder(directory: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(directory), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_a_lease_excludes_others_until_released(tmp_path):
    lease = take_lease(tmp_path)
    assert lease is not None
    assert is_leased(tmp_path)
    assert take_lease(tmp_path) is None
    lease.release()
    assert not is_leased(tmp_path)
    assert take_lease(tmp_path) is not None


def test_of_many_takers_one_wins(tmp_path):
    for attempt in range(20):
        directory = tmp_path / str(attempt)
        with ThreadPoolExecutor(8) as pool:
            taken = list(pool.map(lambda _, d=directory: take_lease(d), range(8)))
        assert sum(lease is not None for lease in taken) == 1


def test_a_living_process_keeps_its_lease(tmp_path):
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


def rewrite(lease, **changes) -> None:
    """Change what the file of a lease says of its owner; None drops a key."""
    content = json.loads(lease.path.read_text()) | changes
    write_json(lease.path, {key: value for key, value in content.items() if value is not None})


def test_a_reused_process_id_is_not_the_owner(tmp_path):
    rewrite(take_lease(tmp_path), created=1.0)
    assert not is_leased(tmp_path)


@pytest.mark.parametrize(("age", "alive"), [(0.0, True), (2 * STALE_SECONDS, False)])
@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"created": None, "started": "7"}])
def test_on_another_host_the_heartbeat_decides(tmp_path, age, alive, change):
    """As of the owner of an earlier version, which wrote the start of its process otherwise."""
    lease = take_lease(tmp_path)
    rewrite(lease, **change)
    then = time.time() - age
    os.utime(lease.path, (then, then))
    assert is_leased(tmp_path) is alive
    lease.touch()
    assert is_leased(tmp_path)


def test_an_owner_that_was_taken_over_sees_it(tmp_path):
    first = take_lease(tmp_path)
    rewrite(first, pid=2**22 + 1)
    second = take_lease(tmp_path)
    assert second is not None
    assert second.holds()
    assert not first.holds()
    first.release()
    assert is_leased(tmp_path)


JOB = Identity(host="n1", job="17")


def test_a_requeued_job_takes_its_own_lease_over_on_another_host(tmp_path):
    first = take_lease(tmp_path, identity=JOB)
    there = replace(JOB, host="n2")
    assert take_lease(tmp_path, identity=replace(there, job="18")) is None
    assert take_lease(tmp_path, identity=there) is None  # not queued again: something is odd
    second = take_lease(tmp_path, identity=replace(there, restarts=1))
    assert second is not None
    assert second.holds()
    assert not first.holds()
    assert first.requeued_while_alive()


def test_the_first_life_of_a_requeued_job_takes_nothing_from_the_second(tmp_path):
    """Its node's slurmd died, so it lives on, and SLURM started the job again elsewhere."""
    assert take_lease(tmp_path, identity=replace(JOB, host="n2", restarts=1)) is not None
    assert take_lease(tmp_path, identity=JOB) is None


def test_nodes_of_slurm_are_hosts_of_their_own(tmp_path):
    rewrite(take_lease(tmp_path, identity=JOB), pid=2**22 + 1)
    assert take_lease(tmp_path, identity=replace(JOB, host="n2")) is None
    assert take_lease(tmp_path, identity=JOB) is not None


def test_an_owner_that_wakes_up_after_two_more_owners_does_not_hold(tmp_path):
    """The second gave the run back: the first must not be in force again, nor its number."""
    first = take_lease(tmp_path)
    rewrite(first, pid=2**22 + 1)
    take_lease(tmp_path).release()
    assert not first.holds()
    third = take_lease(tmp_path)
    assert third.holds()
    assert not first.holds()
    first.touch()
    first.release()
    assert third.holds()
    assert is_leased(tmp_path)


def test_the_identity_of_a_worker(monkeypatch):
    """It is a job's only where submitit started it, not where a user launches within a job."""
    environment = {"SLURM_JOB_ID": "17", "SLURMD_NODENAME": "n1", "SLURM_RESTART_COUNT": "2"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    assert identity() == Identity()
    assert identity().job is None
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    assert identity() == Identity(host="n1", job="17", restarts=2)


def test_the_lease_of_a_job_that_is_gone_can_be_expired(tmp_path):
    lease = take_lease(tmp_path, identity=JOB)
    assert owner_of(tmp_path).job == "17"
    expire_lease(tmp_path, "16")
    assert owner_of(tmp_path).alive
    expire_lease(tmp_path, "17")
    assert not owner_of(tmp_path).alive
    lease.touch()  # it was alive after all
    assert owner_of(tmp_path).alive


def test_a_lease_written_before_jobs_and_logs_were_in_it(tmp_path):
    rewrite(take_lease(tmp_path), job=None, log=None)
    assert owner_of(tmp_path) == Owner(alive=True, job=None, log=None)


def test_a_lease_tells_where_its_owner_logs(tmp_path):
    lease = take_lease(tmp_path, log="17_0_log.err")
    assert lease.log == owner_of(tmp_path).log == "17_0_log.err"


def test_process_ids_mean_something_in_one_namespace_only(tmp_path):
    """Two containers of one host name: no process of the other is seen, and it lives."""
    lease = take_lease(tmp_path)
    rewrite(lease, namespace="another boot pid:[1]", pid=2**22 + 1)
    assert is_leased(tmp_path)
    assert take_lease(tmp_path) is None
    os.utime(lease.path, (0, 0))
    assert not is_leased(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="not Linux")
def test_a_pid_namespace_has_a_name():
    assert re.fullmatch(r"[0-9a-f-]{36} pid:\[\d+\]", Identity().namespace)


@pytest.mark.parametrize("name", ["0007 (copy).json", "9999.json~", ".0002.json.swp", "x.json"])
def test_files_of_others_among_the_leases_are_none(name, tmp_path):
    """Of sync tools and editors."""
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / name).write_text("{}")
    lease = take_lease(tmp_path)
    assert lease.path.name == "0001.json"
    assert lease.holds()
    lease.release()
    again = take_lease(tmp_path)
    assert again.path.name == "0002.json"
