"""``launch submit`` against a real slurmctld: what it sends, what it leaves behind, and what it never shows."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from lockstep.launcher.slurm.job_log import last_job, note_job, read_jobs
from lockstep.launcher.slurm.job_spec import BATCH_SCRIPT, read_job
from tests.helpers.launch import Launch, Result
from tests.helpers.slurm.cluster import recorded_sbatch

WATCHDOG = 60.0
CANARY = "canary-5d1f0c"
SECRETS = ("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MY_TOKEN", "LOCKSTEP_TOKEN")
AROUND = {
    "SLURM_CPU_BIND": "quiet,mask_cpu:0x1", "SLURM_GPUS": "8", "SLURM_GPUS_PER_NODE": "8", "SLURM_NTASKS": "64",
    "SLURM_CPUS_PER_TASK": "7", "SLURM_TRES_PER_TASK": "cpu:7", "SLURM_JOB_ID": "1", "SLURM_EXPORT_ENV": "NONE",
    "SLURM_MEM_PER_NODE": "1", "SLURM_PARTITION": "high", "SBATCH_PARTITION": "high", "SBATCH_EXPORT": "NONE",
    "SBATCH_GPUS": "8", "SBATCH_TIMELIMIT": "1", "SBATCH_GET_USER_ENV": "1", "SRUN_CPUS_PER_TASK": "7",
    "SLURM_NODELIST": "n2", "SBATCH_WAIT": "1", "SBATCH_ARRAY_INX": "1-9", "SBATCH_JOB_NAME": "other",
}  # fmt: skip
OF_ONE_JOB = (
    "SLURM_JOB_ID=", "SLURM_JOBID=", "SLURM_TASK_PID=", "SLURM_JOB_START", "SLURM_JOB_END", "SLURM_JOB_NODELIST",
    "SLURM_NODELIST", "SLURMD_NODENAME", "HOSTNAME=", "SLURM_TOPOLOGY",
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("slurm")


def ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, errors="replace")
    return done.stdout


def state_of(job: str) -> str:
    return ask("scontrol", "-o", "show", "job", job).partition(" JobState=")[2].split()[0]


def wait_for(job: str, *states: str) -> None:
    end = time.monotonic() + WATCHDOG
    while state_of(job) not in states:
        assert time.monotonic() < end, ask("scontrol", "show", "job", job)
        time.sleep(0.1)


def wait_for_file(path: Path) -> str:
    end = time.monotonic() + WATCHDOG
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end, path
        time.sleep(0.1)
    return path.read_text()


def run_folder(done: Result) -> Path:
    assert done.status == 0, done.err
    return Path(done.document["run_dir"])


def submit(launch: Launch, *arguments: str, **more) -> tuple[Path, str]:
    done = launch("submit", "--json", *arguments, **more)
    return run_folder(done), done.document["job"]


def config(tmp_path: Path, *setup: str) -> Path:
    """A config whose set-up lines say and do what the test wants inside of the job."""
    path = tmp_path / "c.yaml"
    path.write_text(f"slurm: {{cpu: 1, time: 5min, setup: {json.dumps(setup)}}}\n")
    return path


def test_what_is_sent_is_what_the_dry_run_printed(launch, tmp_path, monkeypatch):
    calls = recorded_sbatch(tmp_path, monkeypatch)
    arguments = ("digits", "--name", "same", "--nodes", "1", "--cpu", "2", "--time", "10min", "--mail-type", "end",
                 "--sbatch", "nice=5", "train.epochs=1", "--module", "none/1", "--exclude", "n2")  # fmt: skip
    printed = launch("submit", *arguments, "--dry-run", "--json").document
    assert not (tmp_path / "runs" / "same").exists()
    shown = launch("submit", *arguments, "--dry-run")
    folder, job = submit(launch, *arguments)
    assert [argv[0] for argv in calls()] == ["--test-only"] * 3 + ["--parsable"]
    assert [["sbatch", *argv[1:]] for argv in calls()] == [printed["sbatch"]] * 4
    assert printed["sbatch"][-3] == str(BATCH_SCRIPT)
    spooled = ask("scontrol", "write", "batch_script", job, "-")
    assert (
        spooled.rstrip("\n")
        == BATCH_SCRIPT.read_text().rstrip("\n")
        == printed["files"][str(BATCH_SCRIPT)].rstrip("\n")
    )
    assert (folder / "slurm" / "setup.sh").read_text() == printed["files"][str(folder / "slurm" / "setup.sh")]
    written = json.loads((folder / "job.json").read_text())
    assert written | {"wandb_id": ""} == printed["job"] | {"wandb_id": ""}
    assert BATCH_SCRIPT.read_text() in shown.out
    assert all(f"  {option} \\\n" in shown.out for option in printed["job"]["sbatch"])


def test_a_submitted_run_is_queued_with_all_that_it_needs(launch, tmp_path):
    path = config(tmp_path, "echo set-up; false")
    folder, job = submit(launch, str(path), "--name", "one", "--gpus", "1", "--nodes", "2")
    assert sorted(p.name for p in folder.iterdir()) == ["config.yaml", "job.json", "slurm"]
    assert [stat.S_IMODE(p.stat().st_mode) & 0o077 for p in (folder, *folder.rglob("*"))] == [0] * len(
        [folder, *folder.rglob("*")]
    )
    spec = read_job(folder)
    assert (spec.kind, spec.nodes, spec.gpus, spec.cpu, spec.base) == ("train", 2, "1", None, str(tmp_path))
    assert spec.cores == sandbox_cpus() // 2
    assert spec.origins["gpus"] == "--gpus"
    assert spec.origins["time"] == "config c.yaml:1"
    assert (last_job(folder), [event["event"] for event in read_jobs(folder)]) == (
        job,
        ["sending", "submitted"],
    )
    wait_for(job, "FAILED")
    log = (folder / "slurm" / f"job-{job}.log").read_text()
    assert log.startswith("set-up\nlockstep: this line of the set-up failed: echo set-up; false\n")
    assert "JobName=one " in ask("scontrol", "-o", "show", "job", job)


def sandbox_cpus() -> int:
    return int(ask("sinfo", "-h", "-p", "low", "-o", "%c").split()[0].rstrip("+"))


REFUSED = [
    (["--partition", "hgih"], "did you mean high?"),
    (["--nodes", "3"], "has 2 nodes"),
    (["--gpus", "3"], "2 GPUs"),
    (["--constraint", "nix"], "Invalid feature"),
    (["--exclude", "n9"], "Invalid node name"),
    (["--sbatch", "nosuchoption=3"], "nosuchoption"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_a_refused_job_leaves_nothing_and_its_name_is_free(launch, tmp_path, arguments, words):
    done = launch("submit", "digits", "--name", "again", *arguments)
    assert (done.status, done.out) == (2, "")
    assert words in done.err
    assert not (tmp_path / "runs" / "again").exists()


def test_no_secret_of_the_submitting_shell_is_anywhere(launch, slurm, tmp_path):
    path = config(tmp_path, f"env > {tmp_path}/env", f"touch {tmp_path}/there; sleep 60")
    secrets = dict.fromkeys(SECRETS, CANARY) | {"https_proxy": f"http://me:{CANARY}@proxy:1"}
    env = secrets | {"MINE": "travels", "OTHER": "stays"}
    dry = launch("submit", str(path), "--dry-run", "--env", "MINE", env=env)
    done = launch("submit", str(path), "--name", "safe", "--json", "--env", "MINE", env=env)
    folder, job = run_folder(done), done.document["job"]
    wait_for_file_of(tmp_path / "there")
    seen = [dry.out, dry.err, done.out, done.err, (tmp_path / "env").read_text()]
    seen += [ask("scontrol", "show", "job", job), ask("scontrol", "write", "batch_script", job, "-")]
    places = [*folder.rglob("*"), *slurm.folder.rglob("*")]
    seen += [p.read_bytes().decode(errors="replace") for p in places if p.is_file()]
    mine = str(os.getpid())
    for process in Path("/proc").glob("[0-9]*"):
        if process.name != mine:
            seen += [
                _text(process / "cmdline"),
                _text(process / "environ") if _is_of(process, folder) else "",
            ]
    ask("scancel", job)
    assert [text[:300] for text in seen if CANARY in text] == []
    inside = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines())
    assert inside["MINE"] == "travels"
    assert not {"OTHER", *secrets} & inside.keys()
    assert inside["PATH"] == os.environ["PATH"]


def wait_for_file_of(path: Path) -> None:
    end = time.monotonic() + WATCHDOG
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.1)


def _is_of(process: Path, folder: Path) -> bool:
    """Whether a process is one of the job's: what runs in its folder or was started with it."""
    try:
        return str(folder) in _text(process / "cmdline") or (process / "cwd").resolve() == folder
    except OSError:
        return False


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_a_submission_from_inside_another_job_is_as_from_a_clean_shell(launch, tmp_path):
    seen = []
    for number, env in enumerate([{}, AROUND]):
        out = tmp_path / f"env{number}"
        path = config(tmp_path, f"env | sort > {out}.part; mv {out}.part {out}; false")
        folder, job = submit(launch, str(path), "--name", f"run{number}", env=env)
        inside = wait_for_file(out).replace(f"run{number}", "RUN").replace(f"env{number}", "ENV").splitlines()
        shown = dict(
            pair.split("=", 1) for pair in ask("scontrol", "-o", "show", "job", job).split() if "=" in pair
        )
        facts = {
            key: shown[key]
            for key in ("Partition", "NumCPUs", "NumTasks", "TimeLimit", "NumNodes", "Requeue")
        }
        options = [option.replace(f"run{number}", "RUN") for option in read_job(folder).sbatch]
        seen.append(([line for line in inside if not line.startswith(OF_ONE_JOB)], facts, options))
    assert seen[0] == seen[1]


ODD = "o dd 'q' \"d\" $(touch PWNED) `touch PWNED` %j %% ;&| é -x"


def test_odd_paths_work(launch, tmp_path):
    odd = tmp_path / ODD
    odd.mkdir()
    (odd / "c d.yaml").write_text("slurm: {cpu: 1, time: 5min, setup: [pwd, 'echo \"$run\"', 'false']}\n")
    folder, job = submit(launch, "c d.yaml", env={"LOCKSTEP_RUNS": str(odd / "runs")}, cwd=odd)
    assert folder.name.startswith("c_d-2")
    wait_for(job, "FAILED")
    assert [p.name for p in (odd / "runs").iterdir()] == [folder.name]
    log = (folder / "slurm" / f"job-{job}.log").read_text()
    assert log.splitlines()[:2] == [str(folder), str(folder)]
    assert (read_job(folder).folder, read_job(folder).base) == (str(odd), str(odd))
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.parametrize("name", ["a\nb", "a\\b"])
def test_paths_that_slurm_cannot_hold_are_refused(launch, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    done = launch("submit", "digits", env={"LOCKSTEP_RUNS": str(folder)})
    assert done.status == 2
    assert "a run folder must have neither control characters nor backslashes" in done.err
    assert list(folder.iterdir()) == []


def test_a_program_and_all_that_follows_it(launch, tmp_path):
    work = tmp_path / "work"
    (work / "train.py").write_text("pass\n")
    arguments = ["--lr", "1e-3", "--nodes", "9", "a\nb", "$(touch PWNED)", "'", "-m", ""]
    folder, job = submit(
        launch, "--nodes", "2", "--cpu", "1", "--time", "1h", "--json", "train.py", *arguments[:-9]
    )
    ask("scancel", job)
    done = launch("submit", "--nodes", "2", "--cpu", "1", "--name", "p", "train.py", *arguments)
    assert done.status == 0, done.err
    job = read_job(tmp_path / "runs" / "p")
    assert (job.kind, job.program, job.nodes, job.folder) == ("run", ["train.py", *arguments], 2, str(work))
    module = launch("submit", "--cpu", "1", "--name", "m", "-m", "json.tool", "--help")
    assert module.status == 0, module.err
    assert read_job(tmp_path / "runs" / "m").program == ["-m", "json.tool", "--help"]
    assert folder.name.startswith("train-2")


def test_a_script_that_is_not_there_is_told_at_once_and_a_secret_argument_is_noted(launch, tmp_path):
    done = launch("submit", "nowhere.py", "--x")
    assert (done.status, done.err.splitlines()[0]) == (2, "error: nowhere.py: there is no such script")
    assert launch("submit", "-m").status == 2
    (tmp_path / "work" / "t.py").write_text("pass\n")
    done = launch(
        "submit", "--time", "9d", "--dry-run", "t.py", "--hf-token=x", "--eos-token", "y", "--tokens", "3"
    )
    assert [line for line in done.err.splitlines() if "secret" in line] == [
        "note: --hf-token: a secret does not belong on a command line; let the program read a file"
    ]


def test_a_limit_that_the_partition_does_not_allow_is_noted(launch, slurm):
    ask("scontrol", "update", "PartitionName=cancel", "MaxTime=1:00:00")
    done = launch("submit", "--partition", "cancel", "--time", "2h", "--dry-run", "--cpu", "1")
    assert "partition cancel has a limit of 01:00:00: with 02:00:00 the job may wait for ever" in done.err
    done = launch("submit", "--partition", "cancel", "--time", "1h", "--dry-run", "--cpu", "1")
    assert "for ever" not in done.err
    ask("scontrol", "update", "PartitionName=cancel", "MaxTime=INFINITE")


@pytest.fixture
def drained(slurm):
    """The cluster with one of its nodes taken away for maintenance."""
    ask("scontrol", "update", "NodeName=n1", "State=DRAIN", "Reason=disk")
    yield slurm
    slurm.cancel_all()
    ask("scontrol", "update", "NodeName=n1", "State=RESUME")


def test_a_job_that_has_to_wait_for_a_drained_node_is_sent_all_the_same(launch, drained, tmp_path):
    asked = ("submit", "digits", "--nodes", "2", "--cpu", "1", "--time", "5min", "--name", "a")
    waits = (
        "note: SLURM sees no place for the job at the moment (Requested node configuration is not available):"
        " n1 is drained (disk); it may have to wait"
    )
    dry = launch(*asked, "--dry-run")
    assert (dry.status, dry.err.splitlines()[-2]) == (0, waits), dry.err
    assert dry.err.splitlines()[-1] == "nothing was sent; whether SLURM takes it shows when it is sent"
    sent = launch(*asked)
    assert (sent.status, sent.err.splitlines()[0]) == (0, waits), sent.err
    assert state_of(last_job(tmp_path / "runs" / "a")) == "PENDING"
    points = launch("sweep", "digits", "train.seed=0,1", "--submit", *asked[2:-1], "s")
    assert (points.status, points.err.splitlines()[0]) == (0, waits), points.err


NEVER = [
    (["--nodes", "3"], "has 2 nodes"),
    (["--nodes", "2", "--cpus-per-task", "9999"], "2 nodes, each with"),
    (["--gpus", "3"], "2 GPUs"),
    (["--mem", "9000T"], "2 nodes"),
    (["--nodes", "2", "--exclude", "n2"], "has 2 nodes"),
]


@pytest.mark.parametrize(("arguments", "words"), NEVER)
def test_what_can_never_run_is_refused_beside_a_drained_node_as_well(
    launch, drained, tmp_path, arguments, words
):
    done = launch("submit", "digits", "--name", "never", *arguments)
    assert (done.status, done.out) == (2, "")
    assert words in done.err
    assert not (tmp_path / "runs" / "never").exists()
    assert ask("squeue", "-h") == ""


def test_an_address_with_a_user_stays_with_a_note_and_a_token_is_refused(launch, tmp_path):
    env = {"HTTPS_PROXY": f"http://{CANARY}@proxy", "WANDB_BASE_URL": f"https://{CANARY}@h"}
    dry = launch("submit", "digits", "--cpu", "1", "--dry-run", "--json", env=env)
    assert not env.keys() & set(dry.document["environment"])
    dry = launch("submit", "digits", "--cpu", "1", "--dry-run", env=env)
    stays = "does not travel: there is a user in its address, which SLURM would store"
    assert {f"note: {name} {stays}" for name in env} <= set(dry.err.splitlines())
    assert CANARY not in dry.out + dry.err
    (tmp_path / "work" / "t.py").write_text("pass\n")
    done = launch("submit", "--cpu", "1", "--name", "t", "t.py", "--x", "hf_" + "a1B2" * 6)
    assert (done.status, "an argument of the program is a token" in done.err) == (2, True)
    assert "a1B2" not in done.err
    assert not (tmp_path / "runs" / "t").exists()


def test_a_job_that_only_has_the_number_of_the_run_s_is_left_alone(launch, slurm, tmp_path):
    folder, job = submit(launch, "digits", "--cpu", "1", "--time", "5min", "--sbatch", "hold", "--name", "a")
    ask("scancel", job)
    other = slurm.sbatch("true", "--hold", f"--chdir={tmp_path}")
    note_job(folder, "submitted", other)
    found = launch("status", "a", "--json").document
    assert (found["status"], found["slurm"]["job"]) == ("failed", job)
    for command in ("cancel", "stop"):
        assert launch(command, "a").status == 0
    assert slurm.state(other) == "PENDING"
    again = launch("resume", "a")
    assert again.status == 0, again.err
    assert launch("status", "a", "--json").document["status"] == "queued"
    assert launch("cancel", "a").status == 0
    assert slurm.state(other) == "PENDING"
