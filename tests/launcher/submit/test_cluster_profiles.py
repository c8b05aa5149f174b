"""Which cluster profile is used, and what is wrong in one."""

from __future__ import annotations

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.submit.cluster_profiles import find_profile
from tests.helpers.slurm.job_options import write_profiles


def test_the_profile_is_the_one_asked_for_else_the_cluster_s_else_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nothing"))
    assert find_profile(None, "big").values == {}
    with pytest.raises(UsageError, match="there is no"):
        find_profile("big", "big")
    write_profiles(tmp_path, monkeypatch, "default: {partition: a}\nbig: {partition: b}\nother:\n")
    assert find_profile("other", "big").values == {}
    assert find_profile(None, "big").values == {"partition": "b"}
    assert find_profile(None, "small").values == {"partition": "a"}
    with pytest.raises(UsageError, match="did you mean big") as caught:
        find_profile("bgi", None)
    assert "default, big, other" in caught.value.hint


def test_every_mistake_in_every_profile_is_told_with_its_line(tmp_path, monkeypatch):
    text = "a:\n  partion: x\n  time: 90d90d\nb: 3\nc:\n  sbatch: {output: x}\n  env: [OK, MY_TOKEN]\nd: {gpus: [1]}\n"
    write_profiles(tmp_path, monkeypatch, text)
    with pytest.raises(UsageError) as caught:
        find_profile(None, None)
    lines = [line.partition("clusters.yaml:")[2] for line in caught.value.message.splitlines()]
    assert [line.split(":")[0] for line in lines] == ["2", "3", "4", "6", "7", "8"]
    assert 'unknown key "a.partion"; did you mean partition?' in lines[0]
    assert "looks like a secret" in lines[4]
