"""The batch script: what it starts, with set-up lines, modules and any path."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockstep.launcher.slurm.job_spec import BATCH_SCRIPT
from lockstep.launcher.submit import submission as submissions
from tests.helpers.slurm.job_options import setup_of

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
        ["bash", BATCH_SCRIPT, fake, run],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.stdout == f"<-P><-m><lockstep.launcher.job.batch_supervisor><{run}>", done.stderr
    assert not list(tmp_path.rglob("PWNED"))


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
        ["bash", BATCH_SCRIPT, python or str(fake), str(run)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    ), run


def test_the_script_becomes_the_supervisor(tmp_path):
    done, run = run_script(tmp_path, setup="export MARK='a b'\n")
    assert done.stdout.startswith(f"<-P><-m><lockstep.launcher.job.batch_supervisor><{run}>[a b]")
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
    assert done.stdout.startswith(f"<-P><-m><lockstep.launcher.job.batch_supervisor><{run}>"), done.stderr


def test_modules_are_loaded_in_order_and_a_missing_one_ends_the_job(tmp_path):
    module = 'module() { echo "$@"; [ "$2" != c ]; }\n'
    text = module + "".join(
        f"{line}\n" for line in submissions._setup(setup_of(modules=["b", "a", "c", "d"]))
    )
    done, _ = run_script(tmp_path, setup=text)
    assert done.stdout == "load b\nload a\nload c\n"
    assert done.returncode == 3
