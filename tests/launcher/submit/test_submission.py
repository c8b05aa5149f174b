"""What is sent to sbatch, and what the job reads of it."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockstep.launcher.slurm.job_spec import BATCH_SCRIPT, read_job, write_job
from lockstep.launcher.submit import submission as submissions
from tests.helpers.slurm.job_options import ODD_TEXTS, compose, options_of


def test_the_job_s_shape(tmp_path):
    sent = compose(tmp_path, nodes=2, gpus="a100:4", time="10min", partition="p", modules=["cuda/12"])
    assert sent.arguments == [
        "--job-name=r1", f"--chdir={tmp_path}/r1", f"--output={tmp_path}/r1/slurm/job-%j.log", "--open-mode=append",
        "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=a100:4", "--time=00:10:00", "--partition=p",
        "--signal=B:USR1@120", "--no-requeue", "--export=ALL", str(BATCH_SCRIPT), sent.job.python, f"{tmp_path}/r1",
    ]  # fmt: skip
    assert (sent.job.gpus, sent.job.cpu, sent.job.kind, sent.job.nodes) == ("4", None, "run", 2)
    assert Path(sent.job.python).is_absolute()
    (tmp_path / "r1").mkdir()
    write_job(tmp_path / "r1", sent.job)
    assert read_job(tmp_path / "r1") == sent.job


@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.text(max_size=20) | st.sampled_from([*ODD_TEXTS, "\udcff"]), max_size=5))
def test_a_program_s_arguments_arrive_as_they_were(tmp_path, arguments):
    options = options_of()
    sent = submissions.compose(
        tmp_path,
        options,
        base=None,
        config="",
        program=["t.py", *arguments],
        cores=None,
        how="chain",
        requeue=False,
    )
    write_job(tmp_path, sent.job)
    assert read_job(tmp_path).program == ["t.py", *arguments]
    assert not set(arguments) & set(sent.arguments) - {""}
