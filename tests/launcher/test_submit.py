"""What a job asks for, from three sources; which text is let through; the script and what it reads."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockstep.data.errors import UsageError
from lockstep.launcher import submission as submissions
from lockstep.launcher.clusters import command_line, find_profile
from lockstep.launcher.config import resolve
from lockstep.launcher.job import read_job, write_job
from lockstep.launcher.job_environment import for_the_job
from lockstep.launcher.job_log import last_job, note_job, read_jobs
from lockstep.launcher.job_options import Layer, job_options
from lockstep.launcher.job_plan import check_setup, continuation
from lockstep.launcher.names import program_stem, safe_stem
from lockstep.launcher.node_supply import Need
from lockstep.launcher.sbatch import SCRIPT, refuse_path, sbatch_options, warning
from lockstep.launcher.slurm_tool import Answer, SlurmSilentError
from lockstep.launcher.submit_client import Cluster, refusal
from lockstep.training.slurm_fields import OURS, OWN, other_option
from lockstep.training.slurm_time import normal_time, seconds_of
from lockstep.training.spec import SlurmConfig

NASTY = [
    "a b", "a\nb", "a'b", 'a"b', "$(touch PWNED)", "`touch PWNED`", "-x", "--help", "a;b", "a&&b\0", "x\ntouch PWNED #",
    "a\\b", "é", "\x1b[31m", "a\rb", "${HOME}", "~/x", " ", "", "a>b", "a|b<c", "%j\n", "!x", "\u2028",
]  # fmt: skip
TEXT_FIELDS = (
    "partition", "account", "qos", "constraint", "gres", "exclude", "reservation", "mem", "mail_user",
    "mail_type", "container", "time", "gpus",
)  # fmt: skip
LIST_FIELDS = ("modules", "container_mounts", "env")
HARMLESS = re.compile(
    r"[A-Za-z0-9_.,:/@%+=&|*()\[\]#-]*"
)  # no quote, space, $, `, ;, <, >, \ or control character


def cli(**said):
    return job_options([command_line(said)])


def one_argument_each(options: list[str], allowed: int) -> None:
    """None of the options is read as anything else than itself."""
    assert len(options) == allowed
    assert all(option.startswith("--") and "\n" not in option and "\0" not in option for option in options)


# Fields


@pytest.mark.parametrize("field", [*TEXT_FIELDS, *LIST_FIELDS, "sbatch"])
@pytest.mark.parametrize("text", NASTY)
def test_odd_text_is_refused_with_the_option_s_name_or_harmless(field, text):
    flag = {"modules": "module", "container_mounts": "container-mount"}.get(field, field.replace("_", "-"))
    options, refusal = asked_with(field, text)
    assert refusal.isprintable()
    assert options is not None or refusal.startswith(f"--{flag}")
    kept = getattr(options.slurm, field) if options else None
    for item in kept if isinstance(kept, tuple) else kept.values() if isinstance(kept, dict) else [kept]:
        assert item is None or HARMLESS.fullmatch(str(item))
        assert not str(item).startswith("-")


def asked_with(field: str, text: str):
    """The options, or the words of the refusal."""
    value = [text] if field in LIST_FIELDS else {"comment": text} if field == "sbatch" else text
    try:
        return cli(**{field: value}), ""
    except UsageError as error:
        return None, error.message


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.sampled_from((*TEXT_FIELDS, *LIST_FIELDS, "sbatch")), st.text(max_size=40))
def test_any_text_is_refused_or_harmless(field, text):
    _refused_or_harmless(field, text)


@pytest.mark.exhaustive
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from((*TEXT_FIELDS, *LIST_FIELDS, "sbatch")),
    st.text(max_size=40) | st.text("abz09_.,:-[]()|&*=@%+/#$`'\" \n\\", max_size=30),
)
def test_any_text_is_refused_or_harmless_in_full(field, text):
    _refused_or_harmless(field, text)


def _refused_or_harmless(field: str, text: str) -> None:
    options, refusal = asked_with(field, text)
    assert refusal.replace("\n", "").isprintable()
    if options is None:
        return
    base = sbatch_options(Path("/r/x"), SlurmConfig(), cores=None, requeue=False)
    argv = sbatch_options(Path("/r/x"), options.slurm, cores=None, requeue=False)
    for option in argv:
        assert option.startswith("--")
        assert HARMLESS.fullmatch(option), option
        assert not option.partition("=")[2].startswith("-")
    assert len(argv) - len(base) <= 1


@pytest.mark.parametrize(
    "option", [*OURS, *OWN, "outp", "nod", "exp", "dep", "sig", "wra", "a b", "x=y", "-o", "", "O"]
)
def test_sbatch_s_options_that_are_ours_cannot_be_set_not_even_abbreviated(option):
    with pytest.raises(UsageError, match="--sbatch"):
        cli(sbatch={option: "x"})


@pytest.mark.parametrize(
    "option", ["nice", "exclusive", "licenses", "gres-flags", "time-min", "mem-per-gpu", "nodelist"]
)
def test_sbatch_s_other_options_can(option):
    assert other_option(option) == ""
    argv = sbatch_options(Path("/r/x"), cli(sbatch={option: "3"}).slurm, cores=None, requeue=False)
    assert f"--{option}=3" in argv


TIMES = {
    "4:00:00": "04:00:00", "90min": "01:30:00", "2h": "02:00:00", "1-12:00:00": "1-12:00:00", "1d12h": "1-12:00:00",
    "2h30m": "02:30:00", "45s": "00:00:45", "36h": "1-12:00:00", "1-6": "1-06:00:00", "1-6:30": "1-06:30:00",
    "unlimited": "UNLIMITED", "2 h": "02:00:00", "100:00:00": "4-04:00:00", "1 day": "1-00:00:00",
}  # fmt: skip


@pytest.mark.parametrize(("text", "normal"), TIMES.items())
def test_time_limits_have_one_form(text, normal):
    assert normal_time(text) == normal
    assert normal_time(normal) == normal


@pytest.mark.parametrize(
    "text", ["90", "4:30", "0", "0h", "", " ", "-1h", "1:99:00", "two hours", "1.5h", "1h\n", "9999d"]
)
def test_times_that_are_none_or_mean_two_things_are_refused(text):
    with pytest.raises(ValueError, match=r"must|minutes and seconds"):
        normal_time(text)


@given(st.integers(1, 3_000 * 86_400))
def test_every_limit_keeps_its_length(seconds):
    assert seconds_of(normal_time(f"{seconds}s")) == seconds


def test_memory_needs_a_unit_and_kinds_of_mail_are_known():
    assert cli(mem="16GB").slurm.mem == "16G"
    assert cli(mem="500m", mail_type="end,Time-Limit").slurm.mail_type == "END,TIME_LIMIT"
    for said in (
        {"mem": "16"},
        {"mail_type": "ENDD"},
        {"gpus": "all"},
        {"gpus": "0"},
        {"gpus": "idle"},
        {"gpus": "0,1"},
    ):
        with pytest.raises(UsageError, match="must be"):
            cli(**said)


# Sources


def test_later_wins_and_every_option_knows_who_said_so(tmp_path, monkeypatch):
    profile(
        tmp_path,
        monkeypatch,
        "default: {partition: a}\nbig:\n  partition: b\n  account: me\n  gpus: 4\n  sbatch: {nice: 3}\n",
    )
    (tmp_path / "c.yaml").write_text("slurm: {time: 2h, account: you, sbatch: {exclusive: true}}\n")
    resolved = resolve(str(tmp_path / "c.yaml"), ["slurm.qos=high"])
    from lockstep.launcher.job_plan import of_config

    layers = [find_profile(None, "big").layer, of_config(resolved), command_line({"time": "3h", "cpu": 2})]
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


def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "lockstep").mkdir(parents=True)
    (tmp_path / "config" / "lockstep" / "clusters.yaml").write_text(text)


def test_the_profile_is_the_one_asked_for_else_the_cluster_s_else_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nothing"))
    assert find_profile(None, "big").values == {}
    with pytest.raises(UsageError, match="there is no"):
        find_profile("big", "big")
    profile(tmp_path, monkeypatch, "default: {partition: a}\nbig: {partition: b}\nother:\n")
    assert find_profile("other", "big").values == {}
    assert find_profile(None, "big").values == {"partition": "b"}
    assert find_profile(None, "small").values == {"partition": "a"}
    with pytest.raises(UsageError, match="did you mean big") as caught:
        find_profile("bgi", None)
    assert "default, big, other" in caught.value.hint


def test_every_mistake_in_every_profile_is_told_with_its_line(tmp_path, monkeypatch):
    text = "a:\n  partion: x\n  time: 90\nb: 3\nc:\n  sbatch: {output: x}\n  env: [OK, MY_TOKEN]\nd: {gpus: [1]}\n"
    profile(tmp_path, monkeypatch, text)
    with pytest.raises(UsageError) as caught:
        find_profile(None, None)
    lines = [line.partition("clusters.yaml:")[2] for line in caught.value.message.splitlines()]
    assert [line.split(":")[0] for line in lines] == ["2", "3", "4", "6", "7", "8"]
    assert 'unknown key "a.partion"; did you mean partition?' in lines[0]
    assert "looks like a secret" in lines[4]


def test_gpus_and_cpu_exclude_each_other_within_a_source_and_replace_each_other_across():
    with pytest.raises(UsageError, match="not both"):
        cli(gpus="2", cpu=2)
    options = job_options([Layer({"gpus": 2}, {"gpus": "p"}), Layer({"cpu": 3}, {"cpu": "c"})])
    assert (options.slurm.gpus, options.slurm.cpu) == (None, 3)
    assert "gpus" not in options.origins


@pytest.mark.parametrize("line", ["export A_TOKEN=abc", "WANDB_API_KEY='x' true", "a\nb", "a \\", " ", "x\0"])
def test_set_up_lines_are_whole_and_hold_no_secret(line):
    with pytest.raises(UsageError, match=r"setup"):
        resolve("digits", ["slurm.setup=" + json.dumps([line])])


def test_set_up_lines_may_read_a_secret():
    line = 'export WANDB_API_KEY="$(cat ~/.key)"'
    assert resolve("digits", [f"slurm.setup={json.dumps([line])}"]).config.slurm.setup == (line,)


def test_a_run_without_slurm_says_nothing_of_it():
    assert resolve("digits").config.slurm.model_dump() == {}


# What is sent


def compose(tmp_path: Path, **said):
    options = cli(**said)
    return submissions.compose(
        tmp_path / "r1",
        options,
        base=None,
        config="",
        program=["t.py", "--token", "x y"],
        cores=None,
        how="chain",
        requeue=False,
    )


def test_the_job_s_shape(tmp_path):
    sent = compose(tmp_path, nodes=2, gpus="a100:4", time="10min", partition="p", modules=["cuda/12"])
    assert sent.arguments == [
        "--job-name=r1", f"--chdir={tmp_path}/r1", f"--output={tmp_path}/r1/slurm/job-%j.log", "--open-mode=append",
        "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=a100:4", "--time=00:10:00", "--partition=p",
        "--signal=B:USR1@120", "--no-requeue", "--export=ALL", str(SCRIPT), sent.job.python, f"{tmp_path}/r1",
    ]  # fmt: skip
    assert (sent.job.gpus, sent.job.cpu, sent.job.kind, sent.job.nodes) == ("4", None, "run", 2)
    assert Path(sent.job.python).is_absolute()
    (tmp_path / "r1").mkdir()
    write_job(tmp_path / "r1", sent.job)
    assert read_job(tmp_path / "r1") == sent.job


@pytest.mark.parametrize(
    ("time", "grace", "seconds"),
    [(None, None, 120), ("1min", None, 12), ("4h", 300, 360), ("10min", 300, 120), ("30s", None, 10)],
)
def test_slurm_s_signal_comes_well_before_the_end_and_not_before_the_middle(time, grace, seconds):
    assert warning(cli(time=time, grace=grace).slurm) == seconds


@pytest.mark.parametrize("grace", [float("inf"), float("nan"), -1, 65_001])
def test_a_grace_is_a_number_that_slurm_can_count(grace):
    with pytest.raises(UsageError, match=r"--grace = .* must be at (least|most)"):
        cli(grace=grace)
    assert warning(cli(grace=65_000).slurm) < 2**16


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "\x1b", "a\tb"])
def test_a_path_that_slurm_would_take_apart_is_refused(name):
    with pytest.raises(UsageError, match="control characters"):
        refuse_path(Path("/r", name), "a run folder")


def _path_is_refused_or_itself(text: str) -> None:
    path = Path("/r") / text.lstrip("/")
    try:
        refuse_path(path, "a run folder")
    except UsageError as error:
        refusal = error.message
    else:
        refusal = ""
        chdir, output = sbatch_options(path, SlurmConfig(), cores=None, requeue=False)[1:3]
        assert chdir == f"--chdir={path}"
        fields = re.sub(
            "%(.)", lambda found: {"%": "%", "j": "7"}[found[1]], output.removeprefix("--output=")
        )
        assert fields == f"{path}/slurm/job-7.log"
        assert all(option.isprintable() for option in (chdir, output))
    assert refusal.isprintable()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_characters="\0"), max_size=40))
def test_any_path_is_refused_or_itself(text):
    _path_is_refused_or_itself(text)


@pytest.mark.exhaustive
@settings(max_examples=20_000, deadline=None)
@given(
    st.text(st.characters(exclude_characters="\0"), max_size=40) | st.text("%jxa \n'\"$()`\\-;", max_size=20)
)
def test_any_path_is_refused_or_itself_in_full(text):
    _path_is_refused_or_itself(text)


@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.text(max_size=20) | st.sampled_from([*NASTY, "\udcff"]), max_size=5))
def test_a_program_s_arguments_arrive_as_they_were(tmp_path, arguments):
    options = cli()
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


_ODD = st.text(st.sampled_from("ab '\"$`();&|<>*?!~#%\\-{}[]=é\n\t"), min_size=1, max_size=20)


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(_ODD)
def test_the_script_takes_any_path_for_what_it_is(tmp_path, name):
    _script_takes(tmp_path, name)


@pytest.mark.exhaustive
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_ODD)
def test_the_script_takes_any_path_for_what_it_is_in_full(tmp_path, name):
    _script_takes(tmp_path, name)


def _script_takes(tmp_path: Path, name: str) -> None:
    run = tmp_path / f"{name}$(touch PWNED)"
    (run / "slurm").mkdir(parents=True, exist_ok=True)
    (run / "job.json").write_text("{}")
    (run / "slurm" / "setup.sh").write_text("true\n")
    fake = tmp_path / f"py{name}"
    fake.write_text('#!/bin/bash\nprintf "<%s>" "$@"\n')
    fake.chmod(0o755)
    done = subprocess.run(
        ["bash", SCRIPT, fake, run], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60
    )
    assert done.stdout == f"<-P><-m><lockstep.launcher.batch><{run}>", done.stderr
    assert not list(tmp_path.rglob("PWNED"))


def test_percent_in_a_path_is_itself():
    argv = sbatch_options(Path("/a %j/r"), SlurmConfig(), cores=None, requeue=False)
    assert "--output=/a %%j/r/slurm/job-%j.log" in argv
    assert "--chdir=/a %j/r" in argv
    argv = sbatch_options(Path("/a %j/r"), SlurmConfig(), cores=None, requeue=False, tasks="0-3%2")
    assert {"--output=/a %%j/r-%3a/slurm/job-%A_%a.log", "--array=0-3%2"} <= set(argv)


def test_how_a_job_goes_on_follows_the_partition():
    def found(mode: str, asked: str | None = None, *, preempts: bool = True, at_once: int | None = None):
        parts = {"p": {"PartitionName": "p", "Default": "YES", "PreemptMode": mode}}
        slurm = SlurmConfig(continuation=asked)  # type: ignore[arg-type]
        return continuation(slurm, Cluster("c", parts, preempts), at_once)

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


SILENCE = (
    "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
    "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    "sbatch: error: Batch job submission failed: Protocol authentication error",
    "sbatch: error: Batch job submission failed: Invalid authentication credential",
    "sbatch: error: If munged is up, restart with --num-threads=10",
    "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
)
REFUSAL = (
    "sbatch: error: Project x is not authorized for this partition",
    "sbatch: error: author of the job unknown: see our site's rules",
    "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
)


@pytest.mark.parametrize("said", SILENCE)
def test_silence_is_no_refusal(said):
    error = Answer(("sbatch", "x"), 1, "", said).error()
    assert refusal(error, Need()) is error


def test_no_answer_is_no_refusal():
    error = SlurmSilentError("sbatch x\nno answer in 60 s")
    assert refusal(error, Need()) is error


@pytest.mark.parametrize("said", REFUSAL)
def test_a_refusal_is_told_in_the_site_s_own_words(said):
    told = refusal(Answer(("sbatch", "x"), 1, "", said).error(), Need())
    assert isinstance(told, UsageError)
    assert told.message.startswith("SLURM refuses the job: ")
    assert told.message.endswith(said.rpartition(": ")[2])


# The environment


SECRETS = (
    "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MY_TOKEN", "HF_HUB_TOKEN", "GITHUB_TOKEN", "DB_PASSWORD",
    "NCCL_SECRET", "LC_TOKEN", "WANDB_PASSWORD", "TORCH_AUTH", "LOCKSTEP_TOKEN",
)  # fmt: skip


def test_no_secret_travels_and_nothing_of_a_surrounding_job_does():
    around = {
        "SLURM_CPU_BIND": "none",
        "SLURM_GPUS": "8",
        "SBATCH_PARTITION": "x",
        "SLURM_JOB_ID": "3",
        "SRUN_CPUS_PER_TASK": "1",
    }
    wanted = {
        "PATH": "/bin",
        "HOME": "/h",
        "LC_ALL": "C",
        "NCCL_DEBUG": "INFO",
        "WANDB_MODE": "offline",
        "LOCKSTEP_DATA": "/d",
    }
    proxies = {"https_proxy": "http://me:canary@proxy:3128", "http_proxy": "http://proxy:3128"}
    environment = {
        **dict.fromkeys(SECRETS, "canary"),
        **around,
        **wanted,
        **proxies,
        "MINE": "1",
        "OTHER": "2",
    }
    assert for_the_job(environment, ["MINE"]) == wanted | {"MINE": "1", "http_proxy": "http://proxy:3128"}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_not_even_let_through_by_name(name):
    with pytest.raises(UsageError, match="looks like a secret"):
        cli(env=[name])


# The script


def run_script(tmp_path: Path, *, setup: str | None = None, job: bool = True, python: str | None = None):
    run = tmp_path / "r 'q\" $(touch PWNED) é"
    (run / "slurm").mkdir(parents=True)
    if job:
        (run / "job.json").write_text("{}")
    if setup is not None:
        (run / "slurm" / "setup.sh").write_text(setup)
    fake = tmp_path / "py thon"
    fake.write_text('#!/bin/bash\nprintf "<%s>" "$@"; printf "[%s]" "$MARK" "$$" "$PPID"\n')
    fake.chmod(0o755)
    return subprocess.run(
        ["bash", SCRIPT, python or str(fake), str(run)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    ), run


def test_the_script_becomes_the_supervisor(tmp_path):
    done, run = run_script(tmp_path, setup="export MARK='a b'\n")
    assert done.stdout.startswith(f"<-P><-m><lockstep.launcher.batch><{run}>[a b]")
    assert done.stdout.endswith(f"[{os.getpid()}]")  # exec: no shell stands between
    assert not (tmp_path / "PWNED").exists()
    assert done.returncode == 0


def test_the_script_says_what_is_missing_on_the_node(tmp_path):
    done, _ = run_script(tmp_path / "a", job=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "is not to be seen from this node" in done.stderr
    done, _ = run_script(tmp_path / "b", python="/nowhere/python")
    assert done.returncode == 3
    assert "/nowhere/python is not to be seen" in done.stderr


def test_a_set_up_line_that_fails_ends_the_job_with_its_own_text(tmp_path):
    text = "".join(
        f"{line}\n" for line in submissions._setup(setup_of("echo one", "false # 'it'", "echo two"))
    )
    done, _ = run_script(tmp_path, setup=text)
    assert (done.returncode, done.stdout) == (3, "one\n")
    assert "this line of the set-up failed: false # 'it'" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "python=/nowhere run=/nowhere",
        "set -- /a /b /c",
        "shift; true",
        "set -eu",
        "IFS=/",
        "cd /",
        "unset run python",
    ],
)
def test_a_set_up_line_may_set_any_variable(tmp_path, line):
    text = "".join(f"{each}\n" for each in submissions._setup(setup_of(line)))
    done, run = run_script(tmp_path, setup=text)
    assert done.stdout.startswith(f"<-P><-m><lockstep.launcher.batch><{run}>"), done.stderr


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


def test_modules_are_loaded_in_order_and_a_missing_one_ends_the_job(tmp_path):
    module = 'module() { echo "$@"; [ "$2" != c ]; }\n'
    text = module + "".join(
        f"{line}\n" for line in submissions._setup(setup_of(modules=["b", "a", "c", "d"]))
    )
    done, _ = run_script(tmp_path, setup=text)
    assert done.stdout == "load b\nload a\nload c\n"
    assert done.returncode == 3


def setup_of(*lines: str, modules: list[str] | None = None):
    from lockstep.launcher.job import JobSpec

    return JobSpec("run", "r", "w", setup=list(lines), modules=modules or [])


# Names and the log of jobs


@pytest.mark.parametrize(
    ("argv", "stem"),
    [
        (["a b;$(x).py"], "a_b___x_"),
        (["-m", "pkg.mod"], "mod"),
        (["-m"], "run"),
        (["../é.py"], "run"),
        (["x" * 99], "x" * 60),
    ],
)
def test_a_run_is_called_after_its_program(argv, stem):
    assert program_stem(argv) == stem
    assert safe_stem("$(touch x)") == "touch_x_"


def test_the_log_of_jobs_keeps_whole_lines(tmp_path):
    assert (read_jobs(tmp_path), last_job(tmp_path)) == ([], None)
    note_job(tmp_path, "submitted", 7, how="chain")
    note_job(tmp_path, "started", "7", node="n1")
    note_job(tmp_path, "submitted", 8)
    with (tmp_path / "slurm" / "jobs.jsonl").open("a") as file:
        file.write('{"time": 3, "event": "subm')
    assert [(event["event"], event["job"]) for event in read_jobs(tmp_path)] == [
        ("submitted", "7"),
        ("started", "7"),
        ("submitted", "8"),
    ]
    assert last_job(tmp_path) == "8"
    assert (tmp_path / "slurm" / "jobs.jsonl").stat().st_mode & 0o777 == 0o600


def test_what_the_dry_run_prints_can_be_pasted(tmp_path, monkeypatch):
    from lockstep.launcher.submit_view import listing_of

    monkeypatch.chdir(tmp_path)
    sent = compose(tmp_path / "a 'b\" $(x)", partition="p")
    text = "\n".join(listing_of(sent.to_json(), sent.values))
    command = text.partition("\n\n")[0].partition("\n")[2]
    assert shlex.split(command.replace("\\\n", "")) == ["sbatch", *sent.arguments]
    assert SCRIPT.read_text() in text + "\n"
    assert re.search(r"^partition +p +--partition$", text, re.MULTILINE)
