"""The files of docs/kubernetes.md: they are YAML, their parts fit together, and a pod's command finds its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from lockstep.data.common.errors import STOPPED, RankLostError
from lockstep.launcher.worlds.adoption import Placement, adopt
from tests.helpers.paths import ROOT
from tests.worlds import planted
from tests.worlds.planted import Place

TEXT = (ROOT / "docs/kubernetes.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def documents() -> Iterator[dict[str, Any]]:
    for block in BLOCKS:
        yield from yaml.safe_load_all(block)


def one(kind: str) -> dict[str, Any]:
    return next(document for document in documents() if document["kind"] == kind)


def job_specs() -> Iterator[dict[str, Any]]:
    yield one("Job")["spec"]
    for job in one("TrainingRuntime")["spec"]["template"]["spec"]["replicatedJobs"]:
        yield job["template"]["spec"]


def test_every_document_says_what_it_is() -> None:
    kinds = [document["kind"] for document in documents()]
    assert kinds == ["Service", "Job", "TrainingRuntime", "TrainJob"]
    assert all(document["apiVersion"] and document["metadata"]["name"] for document in documents())


@pytest.mark.parametrize("spec", list(job_specs()), ids=["Job", "TrainJob"])
def test_a_stop_with_a_checkpoint_is_tried_again_and_a_wrong_command_is_not(spec: dict[str, Any]) -> None:
    ignore, count, fail = spec["podFailurePolicy"]["rules"]
    assert ignore["onPodConditions"] == [{"type": "DisruptionTarget"}]
    again = {STOPPED, RankLostError.exit_status, 143}
    assert (count["action"], set(count["onExitCodes"]["values"])) == ("Count", again)
    assert (fail["action"], fail["onExitCodes"]["operator"]) == ("FailJob", "NotIn")
    assert set(fail["onExitCodes"]["values"]) == {0, *again}
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # a failure policy requires it
    names = {container["name"] for container in pod["containers"]}
    assert {rule["onExitCodes"]["containerName"] for rule in (count, fail)} == names


@pytest.mark.parametrize("spec", list(job_specs()), ids=["Job", "TrainJob"])
def test_every_pod_has_the_runs_the_key_and_shared_memory(spec: dict[str, Any]) -> None:
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry for entry in container["env"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert environment["LOCKSTEP_RUNS"]["value"] == mounts["runs"]
    assert "secretKeyRef" in environment["LOCKSTEP_KEY"]["valueFrom"]
    assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
    assert mounts["shm"] == "/dev/shm"


def test_the_command_of_the_indexed_job_finds_its_place() -> None:
    job, service = one("Job"), one("Service")
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    options = dict(zip(command[3::2], command[4::2], strict=True))
    assert int(options["--nodes"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    name, domain = job["metadata"]["name"], job["spec"]["template"]["spec"]["subdomain"]
    assert domain == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert options["--rendezvous"].startswith(f"{name}-0.{domain}:")
    for node in range(2):
        asked = Placement(nodes=2, rendezvous=options["--rendezvous"])
        got = adopt(asked, lambda: 8, planted.indexed_job(Place(2, 1, node)))
        assert (got.nodes, got.node_rank, got.name, got.rendezvous) == (2, node, name, asked.rendezvous)


def test_the_command_of_the_train_job_needs_no_option() -> None:
    assert one("TrainJob")["spec"]["trainer"]["command"] == ["launch", "train", "digits"]
    for node in range(2):
        pod = {**planted.train_job(Place(2, 1, node)), "PET_NPROC_PER_NODE": "auto"}
        got = adopt(Placement(), lambda: 8, pod)
        assert (got.nodes, got.node_rank, got.gpus, got.cpu) == (2, node, None, None)
        assert got.rendezvous == "job-node-0-0.job:29500"
        assert got.name == "job-node-0"
