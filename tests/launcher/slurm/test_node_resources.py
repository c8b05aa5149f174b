"""What fits a partition once its nodes are back, and why it has to wait until then."""

from __future__ import annotations

import pytest

from lockstep.launcher.slurm.node_resources import (
    ClusterNode,
    NodeRequirements,
    explain_queue_wait,
    parse_nodes,
)

SAID = """\
low|n1|8|24105|gpu:2|drained*|disk x|y
low|n2|8|24105|gpu:a100:1(S:0),gpu:v100:1,nvme:1|mixed|none
high|n3|4|1000|(null)|idle~|none
"""
NODES = parse_nodes(SAID)


def test_sinfo_s_lines_are_nodes() -> None:
    assert [
        ClusterNode("low", "n1", 8, 24105, 2, "drained", "disk x|y"),
        ClusterNode("low", "n2", 8, 24105, 2, "mixed", "none"),
        ClusterNode("high", "n3", 4, 1000, 0, "idle", "none"),
    ] == NODES
    assert parse_nodes("") == parse_nodes("a site's greeting\n") == []


@pytest.mark.parametrize(
    ("partitions", "asked", "fits"),
    [
        ("low", {"nodes": 2, "cpus": 8, "gpus": 2, "memory": "23G"}, True),
        ("low", {"nodes": 2, "memory": "0"}, True),  # SLURM's word for all of a node's
        ("low", {"nodes": 2}, True),
        ("low", {"nodes": 3}, False),
        ("low", {"cpus": 9}, False),
        ("low", {"gpus": 3}, False),
        ("low", {"memory": "24G"}, False),
        ("low", {"memory": "24106M"}, False),
        ("low", {"memory": "1T"}, False),
        ("low high", {"nodes": 3}, False),  # a job is in one partition
        ("high low", {"gpus": 1}, True),
        ("high", {"gpus": 1}, False),
        ("", {}, False),
    ],
)
def test_a_job_fits_by_what_the_nodes_have_whatever_their_state(partitions, asked, fits):
    need = NodeRequirements([{"PartitionName": name} for name in partitions.split()], **asked)
    assert need.fits(NODES) is fits


def test_who_waits_is_told_for_what() -> None:
    begin, end = "SLURM sees no place for the job at the moment (w): ", "; it may have to wait"
    assert explain_queue_wait(NODES, "w") == f"{begin}n1 is drained (disk x|y){end}"
    assert explain_queue_wait(NODES[1:], "w") == f"{begin}nodes may be reserved{end}"
    down = [ClusterNode("low", f"n{number}", 1, 1, 0, "down", "none") for number in range(5)]
    named = "n0 is down, n1 is down, n2 is down and 2 more"
    assert explain_queue_wait([*down, *down], "w") == f"{begin}{named}{end}"
