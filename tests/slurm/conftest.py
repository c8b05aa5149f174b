"""A real SLURM of two nodes for the tests of a session; under xdist each worker has its own.

``cluster`` lives as long as the session and ends with it, however that ends; ``slurm`` is the same for one test, which
finds its nodes idle, has SLURM_CONF set, and leaves no job behind.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.launcher.sandbox import start as sandbox
from tests.helpers.launch import Launch
from tests.helpers.slurm.cluster import Cluster, start_cluster
from tests.helpers.slurm.paced import PACED, Paced


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """See the head of this file; a test that needs SLURM asks for ``slurm`` rather than for this."""
    work = Path(tempfile.mkdtemp(prefix="slurm-jobs-", dir="/tmp"))
    try:
        own = start_cluster(work)
        yield own
        sandbox.down(own.folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@pytest.fixture
def slurm(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    yield cluster
    cluster.cancel_all()
    if {"n1", "n2"} - cluster.record.living().keys():
        cluster.start_nodes()
    cluster.wait_idle()


@pytest.fixture
def paced(own: Path, launch: Launch, slurm: Cluster) -> Paced:
    """A user's folder with a training that is as slow as a test wants."""
    (own / "own.py").write_text((own / "own.py").read_text() + PACED)
    return Paced(own, launch, slurm)
