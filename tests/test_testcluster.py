"""The private SLURM cluster: it comes up, hands exit codes on, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from slurm import testcluster
from slurm.testcluster import private_cluster

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "slurm.testcluster"]
NOBODY = 65534


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def _processes(folder: str) -> list[str]:
    """Command lines of the processes that were started with that cluster."""
    mark = f"SLURM_CONF={folder}/slurm.conf".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.mark.slurm
def test_a_command_finds_nodes_and_gpus_and_its_exit_code_is_passed_on():
    script = (
        "dirname $SLURM_CONF; sinfo -h -N -p main -o %G; "
        "srun -N3 --gpus-per-node=1 sh -c 'echo gpu $CUDA_VISIBLE_DEVICES'; "
        "sbatch -o /dev/null --wrap 'sleep 600' > /dev/null; "
        "until squeue -h -t R | grep -q .; do sleep 0.1; done; exit 7"
    )
    result = _run("--nodes", "3", "--", "sh", "-c", script)
    assert result.returncode == 7, result.stderr
    folder, *rest = result.stdout.split("\n")
    assert rest == ["gpu:2"] * 3 + ["gpu 0"] * 3 + [""]
    assert not Path(folder).exists()
    assert not _processes(folder)


@pytest.mark.slurm
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_takes_everything_down(number, tmp_path):
    script = f"dirname $SLURM_CONF > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/folder; sleep 9"
    launcher = subprocess.Popen([*COMMAND, "--", "sh", "-c", script], cwd=ROOT, process_group=0)
    deadline = time.monotonic() + 60
    while not (tmp_path / "folder").exists():
        assert launcher.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    folder = (tmp_path / "folder").read_text().strip()
    assert _processes(folder)
    os.killpg(launcher.pid, number)
    assert launcher.wait(timeout=30) == 128 + number
    assert not Path(folder).exists()
    assert not _processes(folder)


def _as_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    os.environ["LOGNAME"] = "nobody"
    os.chdir("/")
    with private_cluster() as cluster:
        command = ["srun", "id", "-u"]
        out = subprocess.check_output(command, env={**os.environ, **cluster.environment})
    assert int(out) == NOBODY


@pytest.mark.slurm
@pytest.mark.skipif(os.getuid() != 0, reason="every other test here shows it: this is not root")
def test_it_needs_no_root():
    process = get_context("fork").Process(target=_as_nobody)
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_without_slurm_one_line_says_what_to_install():
    elsewhere = (
        "import sys; from slurm import testcluster; testcluster.SEARCH_PATH = '/nowhere'; "
        "sys.exit(testcluster.main(['--', sys.executable]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", elsewhere], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "slurmctld, slurmd, sbatch" in line
    assert "apt-get install --no-install-recommends slurmctld slurmd slurm-client" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nodes", "0", "--", "true"], "--nodes: expected a whole number above 0 (got 0)"),
        (["--", "no-such-command"], "no-such-command: no such command"),
    ],
)
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        testcluster.main(arguments)
    assert message in capsys.readouterr().err
