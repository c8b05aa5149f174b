"""Options from three sources: which one wins, and who set it."""

from __future__ import annotations

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.config.resolution import resolve
from lockstep.launcher.submit.cluster_profiles import command_line, find_profile
from lockstep.launcher.submit.option_layers import OptionLayer, job_options
from tests.helpers.slurm.job_options import options_of, write_profiles


def test_later_wins_and_every_option_knows_who_said_so(tmp_path, monkeypatch):
    write_profiles(
        tmp_path,
        monkeypatch,
        "default: {partition: a}\nbig:\n  partition: b\n  account: me\n  gpus: 4\n  sbatch: {nice: 3}\n",
    )
    (tmp_path / "c.yaml").write_text("slurm: {time: 2h, account: you, sbatch: {exclusive: true}}\n")
    resolved = resolve(str(tmp_path / "c.yaml"), ["slurm.qos=high"])
    from lockstep.launcher.submit.job_plan import slurm_layer

    layers = [find_profile(None, "big").layer, slurm_layer(resolved), command_line({"time": "3h", "cpu": 2})]
    options = job_options(layers)
    assert options.slurm.model_dump() == {
        "nodes": 1, "cpu": 2, "time": "03:00:00", "partition": "b", "account": "you", "qos": "high",
        "sbatch": {"nice": 3, "exclusive": True}, "continuation": "auto", "max_preemptions": 50, "max_crashes": 2,
    }  # fmt: skip
    assert options.origins == {
        "nodes": "default", "continuation": "default", "max_preemptions": "default", "max_crashes": "default",
        "partition": "cluster big, clusters.yaml:3", "account": "config c.yaml:1", "time": "--time", "cpu": "--cpu",
        "qos": "config override slurm.qos=high", "sbatch": "cluster big, clusters.yaml:6; config c.yaml:1",
    }  # fmt: skip


def test_gpus_and_cpu_exclude_each_other_within_a_source_and_replace_each_other_across():
    with pytest.raises(UsageError, match="not both"):
        options_of(gpus="2", cpu=2)
    options = job_options([OptionLayer({"gpus": 2}, {"gpus": "p"}), OptionLayer({"cpu": 3}, {"cpu": "c"})])
    assert (options.slurm.gpus, options.slurm.cpu) == (None, 3)
    assert "gpus" not in options.origins
