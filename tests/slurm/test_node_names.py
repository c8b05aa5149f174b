"""Nodes as clusters name them, ``rack[1-2]node[3-4]``, which no resolver knows, with several interfaces."""

from __future__ import annotations

import itertools
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.launcher.nodes.network_interfaces import interface_addresses
from lockstep.launcher.sandbox import start as sandbox
from lockstep.launcher.sandbox.daemon_keeper import SBIN
from tests.helpers.launch import Launch
from tests.helpers.run_records import DIGESTS
from tests.helpers.slurm.cluster import Cluster, start_cluster, wait_until

NAMES = [f"rack{rack}node{node}" for rack, node in itertools.product((1, 2), (3, 4))]
SAME = (*DIGESTS, "metrics", "steps", "samples")


@pytest.fixture
def racks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A sandbox whose daemons have made way for those of four nodes with other names."""
    cluster = start_cluster(tmp_path)
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for name in ("slurmctld", "n1", "n2"):
            cluster.kill_node(name)
        _rename_nodes(cluster)
        daemons += [_start(cluster, "slurmctld", "-c")]
        daemons += [_start(cluster, "slurmd", "-N", name) for name in NAMES]
        wait_until(lambda: cluster.node_states() == dict.fromkeys(NAMES, "idle"), f"{cluster.node_states()}")
        monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
        yield cluster
        cluster.cancel_all()
    finally:
        for daemon in daemons:
            daemon.kill()
            daemon.wait()
        sandbox.down(cluster.folder)


def _rename_nodes(cluster: Cluster) -> None:
    ports = []
    for _ in NAMES:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ports.append(str(server.getsockname()[1]))
    text = cluster.conf.read_text().replace("n[1-2]", "rack[1-2]node[3-4]")
    cluster.conf.write_text(re.sub(r" Port=\[[0-9,]+\]", f" Port=[{','.join(sorted(ports, key=int))}]", text))
    gres = cluster.folder / "gres.conf"
    gres.write_text(gres.read_text().replace("n[1-2]", "rack[1-2]node[3-4]"))
    for name in NAMES:
        (cluster.folder / f"spool-{name}").mkdir()


def _start(cluster: Cluster, daemon: str, *options: str) -> subprocess.Popen[bytes]:
    log = (cluster.work / f"{daemon}.out").open("ab")
    with log:
        command = [daemon, "-D", "-f", str(cluster.conf), *options]
        env = {**cluster.env, "PATH": f"{cluster.env['PATH']}:{SBIN}"}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)


@pytest.mark.exhaustive
def test_nodes_meet_whatever_they_are_called(racks: Cluster, launch: Launch, own: Path) -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo(NAMES[0], 80)
    assert len(interface_addresses()) > 1
    here = launch("train", "own.yaml", "--name", "here", "--cpu", "2", "--json", cwd=own)
    assert here.status == 0, here.err
    arguments = (
        "own.yaml",
        "--nodes",
        "2",
        "--cpu",
        "1",
        "--exclude",
        "rack1node4,rack2node4",
        "--name",
        "there",
    )
    sent = launch("submit", *arguments, "--json", cwd=own)
    assert sent.status == 0, sent.err
    outcome = Path(sent.document["run_dir"]) / "outcome.json"
    wait_until(outcome.exists, launch("status", "there").out + racks.run("squeue"), 180)
    found = json.loads(outcome.read_text())
    assert {key: found[key] for key in SAME} == {key: here.document[key] for key in SAME}
    nodes = racks.details(sent.document["job"])["NodeList"]
    assert racks.run("scontrol", "show", "hostnames", nodes).split() == ["rack1node3", "rack2node3"]
