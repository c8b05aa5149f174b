"""How a job continues, and which set-up lines are taken."""

from __future__ import annotations

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.slurm.options import SlurmConfig
from lockstep.launcher.submit import submission as submissions
from lockstep.launcher.submit.job_plan import _bare_time, check_setup, continuation
from lockstep.launcher.submit.option_layers import OptionLayer, job_options
from lockstep.launcher.submit.scheduler import ClusterInfo
from tests.helpers.slurm.job_options import setup_of


def test_how_a_job_goes_on_follows_the_partition():
    def found(mode: str, asked: str | None = None, *, preempts: bool = True, at_once: int | None = None):
        parts = {"p": {"PartitionName": "p", "Default": "YES", "PreemptMode": mode}}
        slurm = SlurmConfig(continuation=asked)  # type: ignore[arg-type]
        return continuation(slurm, ClusterInfo("c", parts, preempts), at_once)

    assert found("REQUEUE") == ("chain", True)
    assert found("REQUEUE", preempts=False) == ("chain", False)
    assert found("CANCEL") == ("chain", False)
    assert found("GANG,SUSPEND") == ("chain", False)
    assert found("CANCEL", "requeue") == ("requeue", True)
    assert found("REQUEUE", "chain") == ("chain", False)
    assert found("REQUEUE", "none") == ("none", False)
    assert found("REQUEUE", at_once=2) == ("requeue", True)  # a chained job is none of the array's tasks
    assert found("CANCEL", at_once=2) == ("chain", False)
    assert found("REQUEUE", "chain", at_once=2) == ("chain", False)


@pytest.mark.parametrize(
    "lines",
    [("cat <<E", "export A=1"), ("cat <<E", "text", "E"), ("cat <<-'E' | sh",), ("if true; then",), ("'",)],
)
def test_a_set_up_line_that_would_swallow_the_next_is_refused(lines):
    text = "".join(f"{each}\n" for each in submissions._setup(setup_of(*lines)))
    with pytest.raises(UsageError, match=r"slurm\.setup") as caught:
        check_setup(text)
    assert "a whole command" in caught.value.hint


@pytest.mark.parametrize("line", ["export A=$((1<<2))", 'read A <<< "$B"', "echo '<<E'", "true # <<E"])
def test_other_uses_of_that_sign_are_taken(line):
    check_setup("".join(f"{each}\n" for each in submissions._setup(setup_of(line, "true"))))


def test_the_time_limit_that_counts_is_noted_where_it_has_no_unit():
    profile = OptionLayer({"time": 30}, {"time": "cluster big, clusters.yaml:3"})
    said = OptionLayer({"time": "10"}, {"time": "--time"})
    for layers, note in (
        ([profile, said], "--time"),
        ([profile], "clusters.yaml:3"),
        ([said, profile], "yaml:3"),
    ):
        (found,) = _bare_time(job_options(layers), layers)
        assert f"{note}) is " in found
    assert job_options([profile, said]).slurm.time == "00:10:00"
    hours = OptionLayer({"time": "2h"}, {"time": "--time"})
    assert _bare_time(job_options([profile, hours]), [profile, hours]) == []
