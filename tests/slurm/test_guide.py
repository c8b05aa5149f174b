"""The guide to SLURM: its sessions that do not show a moment of a cluster's life, on the sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.doc_blocks import blocks_of
from tests.helpers.doc_reader import DocReader
from tests.helpers.launch import Launch
from tests.helpers.slurm.cluster import Cluster

pytestmark = pytest.mark.exhaustive


def test_the_guides_sessions(
    launch: Launch, slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = blocks_of("slurm/README.md")
    first, said, wrong = [block for block in found if block.language == "console" and not block.why_not]
    (profile,) = [block.text for block in found if block.language == "yaml"]
    home = tmp_path / "home"
    clusters = home / ".config" / "lockstep" / "clusters.yaml"
    clusters.parent.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    reader = DocReader(launch, slurm.work, {"COLUMNS": "200"})
    reader.do(first)
    clusters.write_text(profile)
    reader.do(said)
    *before, (typo, shown) = wrong.session()
    clusters.unlink()
    for command, printed in before:
        reader.check(command, printed)
    clusters.write_text(profile.replace("partition:", "partiton:"))
    reader.check(typo, [line.replace("/home/ada", str(home)) for line in shown])
