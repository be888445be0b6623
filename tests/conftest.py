"""Token files in a temporary cache for all tests, and a SLURM cluster for those that want one."""

from __future__ import annotations

import os
import signal

import pytest

from slurm.testcluster import missing_programs, private_cluster

# Before numpy and torch are imported: beside other work their threads wait by spinning, which
# took more than half of the time of the tests of the pooled estimate.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Who runs the tests in the background may have Ctrl-C ignored, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First the tests that mostly wait, for SLURM, then the longest file, which ended alone."""
    items.sort(
        key=lambda item: (
            item.get_closest_marker("slurm") is None,
            item.path.name != "test_results.py",
        )
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("slurm") and (missing := missing_programs()):
        pytest.skip(f"SLURM is not installed: no {', '.join(missing)}")


@pytest.fixture(scope="module")
def slurm_cluster(request: pytest.FixtureRequest):
    """A cluster of two nodes, or of `NODES` of the module; this process and its children use it."""
    nodes = getattr(request.module, "NODES", 2)
    with private_cluster(nodes) as cluster, pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield cluster


@pytest.fixture(scope="session", autouse=True)
def _token_cache(tmp_path_factory: pytest.TempPathFactory):
    """Token files are built once a test session, never in the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PAPER_REPRO_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()
