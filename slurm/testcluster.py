"""A private SLURM cluster on this machine: real daemons, in a temporary folder, on free ports.

    python -m slurm.testcluster --nodes 2 -- python -m sweeps.launch FILE --cluster slurm ...

brings the cluster up, runs the command with it, takes it down and passes the exit code on. It needs
no root, no munge and no configuration of the system. Nodes are daemons on this machine that claim
to have CPUs, memory and GPUs; what they claim is scheduled, not enforced.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from paper_repro.command import command
from paper_repro.errors import ConfigError

PACKAGES = "slurmctld slurmd slurm-client"
"""Debian's packages with all that is needed."""
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scancel", "scontrol")
START_SECONDS = 30.0
STOP_SECONDS = 10.0
NODE_VARIABLE = "SLURMD_NODENAME"
"""The variable in which SLURM puts the name of a job's node."""
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
"""Daemons are often not on the PATH of an ordinary user."""

# Why some of these are not SLURM's defaults. linuxproc: cgroups need root. config_overrides: nodes
# claim more than the machine has. cred_expire: a requeued job waits that long (below 5 it is killed
# instead). MinJobAge: squeue remembers ended jobs, so that no accounting database is needed.
# SlurmdTimeout: a node whose daemon is silent for that long is down. BatchStartTimeout: a job older
# than that is missed when its node comes back without it.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
PlugStackConfig={folder}/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
GresTypes=gpu
FirstJobId={first_job}
JobRequeue=1
MinJobAge=86400
KillWait=5
SlurmdTimeout=10
BatchStartTimeout=3
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
    " CPUs=64 RealMemory=64000 Gres=gpu:2 State=UNKNOWN\n"
)
PARTITIONS = """\
PartitionName=main Nodes=ALL Default=YES State=UP PriorityTier=1 GraceTime=3 LLN=YES
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""
#: submitit asks sacct, which needs an accounting database; squeue knows the same here.
SACCT = """\
#!/bin/sh
echo 'JobID|State|NodeList'
exec squeue -h -a --states=all -r -o '%i|%T|%N'
"""


@dataclass(frozen=True)
class PrivateCluster:
    """A cluster that is up."""

    folder: Path
    """Its configuration, state and logs."""
    environment: Mapping[str, str]
    """What a process needs in its environment to use this cluster."""
    daemons: dict[str, subprocess.Popen[bytes]]
    """`slurmctld`, and a slurmd under the name of its node: `n1`, `n2`, ..."""

    def start(self, name: str) -> None:
        """Start a daemon, for the first time or after it was killed."""
        configuration = self.environment["SLURM_CONF"]
        command = ["slurmctld", "-D", "-i", "-c", "-f", configuration]
        environment = {**os.environ, **self.environment}
        if name != "slurmctld":
            command = ["slurmd", "-D", "-f", configuration, "-N", name]
            environment[NODE_VARIABLE] = name  # all that runs on the node inherits it
        with (self.folder / f"{name}.out").open("wb") as out:
            self.daemons[name] = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C in the terminal is not for them
            )

    def kill(self, name: str) -> None:
        """Kill a daemon. Jobs of its node go on."""
        self.daemons[name].kill()
        self.daemons[name].wait()

    def cut_power(self, node: str) -> None:
        """Kill all that runs on a node, at once; `start` brings it back."""
        _kill_all(f"SLURM_CONF={self.environment['SLURM_CONF']}", f"{NODE_VARIABLE}={node}")
        self.daemons[node].wait()

    def mend(self) -> None:
        """Bring back what is dead, down or drained, end all jobs, and wait until all is idle.

        Raises:
            ConfigError: the cluster does not recover.
        """
        for name, daemon in self.daemons.items():
            if daemon.poll() is not None:
                self.start(name)
        self.ask("scancel", f"--user={os.getuid()}")
        self.ask("scontrol", "update", "nodename=ALL", "state=resume")
        _wait_until_idle(self)

    def ask(self, *command: str) -> str:
        """What one of SLURM's commands prints with this cluster."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        ).stdout


@contextmanager
def private_cluster(nodes: int = 1) -> Iterator[PrivateCluster]:
    """Bring a cluster up and, whatever happens, take it and all its jobs down.

    Raises:
        ConfigError: SLURM is not installed, or its daemons do not start.
    """
    if missing := missing_programs():
        raise ConfigError(
            f"SLURM is not installed ({', '.join(missing)} not found); on Debian: "
            f"apt-get install --no-install-recommends {PACKAGES}"
        )
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        names = [f"n{number}" for number in range(1, nodes + 1)]
        _configure(folder, names)
        environment = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(folder / "bin"), SEARCH_PATH]),
        }
        cluster = PrivateCluster(folder, environment, {})
        stack.callback(_kill_all, f"SLURM_CONF={environment['SLURM_CONF']}")
        for name in ("slurmctld", *names):
            cluster.start(name)
        _wait_until_idle(cluster)
        yield cluster


def missing_programs() -> list[str]:
    """The programs of SLURM that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCH_PATH) is None]


def _configure(folder: Path, names: Sequence[str]) -> None:
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    port, *ports = _free_ports(1 + len(names))
    text = CONFIGURATION.format(
        host=host,
        port=port,
        user=os.getuid(),  # not by a name: that in the environment may be another's
        folder=folder,
        # submitit names its files after job ids: those of two clusters must not meet.
        first_job=random.randrange(1_000, 60_000_000),
    )
    nodes = [NODE.format(name=n, host=host, port=p) for n, p in zip(names, ports, strict=True)]
    (folder / "slurm.conf").write_text(text + "".join(nodes) + PARTITIONS)
    (folder / "plugstack.conf").touch()
    for number in range(2):  # slurmd wants devices, whose names end in the GPU's number
        (folder / f"gpu{number}").symlink_to("/dev/null")
    (folder / "gres.conf").write_text(f"AutoDetect=off\nName=gpu File={folder}/gpu[0-1]\n")
    sacct = folder / "bin" / "sacct"
    sacct.write_text(SACCT)
    sacct.chmod(0o755)


def _free_ports(count: int) -> list[int]:
    """Ports that were free this moment; all are held until the last is found."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _wait_until_idle(cluster: PrivateCluster) -> None:
    deadline = time.monotonic() + START_SECONDS
    wanted = {f"{name} idle" for name in cluster.daemons if name != "slurmctld"}
    while (found := set(cluster.ask("sinfo", "-h", "-N", "-o", "%N %t").splitlines())) != wanted:
        for name, daemon in cluster.daemons.items():
            if daemon.poll() is not None:
                log = (cluster.folder / f"{name}.out").read_text(errors="replace").strip()
                last = log.splitlines()[-1] if log else "it says nothing"
                raise ConfigError(f"the test cluster did not start: {name}: {last}")
        if time.monotonic() > deadline:
            states = ", ".join(sorted(found)) or "no answer"
            raise ConfigError(f"the test cluster did not start: {states} after {START_SECONDS} s")
        time.sleep(0.1)


def _kill_all(*marks: str) -> None:
    """Kill whatever has these lines in its environment: daemons, steps, and processes of jobs.

    Killed daemons cannot look after their jobs, so each process is found by itself.
    """
    deadline = time.monotonic() + STOP_SECONDS
    while (found := _processes_with(marks)) and time.monotonic() < deadline:
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def _processes_with(marks: Sequence[str]) -> list[int]:
    """Ids of other processes of this user that were started with such lines in their environment.

    Read as bytes: slurmstepd writes its title over the start of its environment, where psutil's
    parser then stops.
    """
    found = []
    wanted = {mark.encode() for mark in marks}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            environment = (directory / "environ").read_bytes()
        except OSError:  # gone, or another user's
            continue
        if wanted <= set(environment.split(b"\0")) and directory.name != str(os.getpid()):
            found.append(int(directory.name))
    return found


@command
def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code of the command that it runs, or 2."""
    parser = argparse.ArgumentParser(
        prog="python -m slurm.testcluster",
        usage="%(prog)s [--nodes N] -- COMMAND ...",
        description="Run a command with a private SLURM cluster on this machine.",
    )
    parser.add_argument(
        "--nodes", metavar="N", type=int, default=1, help="nodes (default: %(default)s)"
    )
    parser.add_argument("command", metavar="COMMAND", nargs="+", help="what to run, after --")
    arguments = parser.parse_args(argv)
    if arguments.nodes < 1:
        parser.error(f"--nodes: expected a whole number above 0 (got {arguments.nodes})")
    if shutil.which(arguments.command[0]) is None:
        parser.error(f"{arguments.command[0]}: no such command")
    # A signal ends the command, and the cluster in any case.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    with private_cluster(arguments.nodes) as cluster:
        return _run(arguments.command, {**os.environ, **cluster.environment})


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command, handing signals on to it; its exit code as a shell reports it."""
    with subprocess.Popen(command, env=environment) as process:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _frame: process.send_signal(number))
        signal.signal(signal.SIGINT, lambda *_: None)  # a terminal gives it to the command too
        code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
