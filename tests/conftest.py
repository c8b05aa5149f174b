"""Every test has run, cache and data folders of its own, no W&B account, and a ``launch`` that is the real one."""

from __future__ import annotations

import compileall
import os
import signal
import sys
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest
from hypothesis import settings

from tests.helpers.launch import Launch, Result
from tests.helpers.node_launch import NodeLaunch
from tests.helpers.paths import ROOT
from tests.helpers.user_project import USER_CODE, USER_CONFIG
from tests.helpers.warm_launch import SERVER, run_launch

settings.register_profile("lockstep", deadline=None)  # no verdict depends on speed
settings.load_profile("lockstep")

# A shell's background job ignores SIGINT and SIGQUIT, nohup's SIGHUP, and so would what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_configure(config: pytest.Config) -> None:
    """Compile our sources once where Python is told to write no bytecode, not in each of a thousand processes."""
    if sys.dont_write_bytecode and not hasattr(config, "workerinput"):
        for folder in ("data", "training", "launcher", "configs", "slurm", "tests/helpers"):
            compileall.compile_dir(ROOT / folder, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """Keep the bytecode of tests: five processes rewrite their assertions at every start otherwise, 9 s each."""
    told, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    yield
    sys.dont_write_bytecode = told


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give rows of large tables half an hour: the watchdog is for what hangs, not for a slow machine."""
    for item in items:
        if item.get_closest_marker("exhaustive") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes that nobody can read by their argument: a compressed file holds the second it was made in, and
    processes that collect different names refuse to run.
    """
    unreadable = isinstance(val, bytes) and not (val.isascii() and val.decode().isprintable())
    return argname if unreadable else None


def pytest_sessionfinish() -> None:
    """End the process that ``launch`` was forked from."""
    SERVER.close()


def pytest_xdist_auto_num_workers() -> int:
    """Take three workers more than there are cores: tests wait half of their time, for signals, ports and clocks."""
    return len(os.sched_getaffinity(0)) + 3


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn digits are drawn once for the whole suite, by whichever worker comes first."""
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKSTEP_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LOCKSTEP_CACHE", str(shared_cache))
    monkeypatch.setenv("LOCKSTEP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOCKSTEP_SLURM_SANDBOX", str(tmp_path / "sandbox"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("LOCKSTEP_PROGRESS_SECONDS", "0")  # no verdict depends on speed
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "WANDB_API_KEY",
        "OMP_NUM_THREADS",
        "SLURM_CONF",
        "COLUMNS",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """``launch("train", "--cpu", "2")`` in a folder that is not the repository."""
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)

    def run(*arguments: str, env: Mapping[str, str] | None = None, cwd: Path = work) -> Result:
        done = run_launch(*arguments, cwd=cwd, env={**os.environ, **(env or {})})
        return Result(done.returncode, done.stdout, done.stderr, arguments)

    return run


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's folder: own data and model of prime sizes, and the config ``own.yaml`` that names them."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own.py").write_text(USER_CODE)
    (folder / "own.yaml").write_text(USER_CONFIG)
    return folder


@pytest.fixture
def hosts() -> Iterator[list[NodeLaunch]]:
    """The nodes that a test has started; whatever it finds, their processes end."""
    started: list[NodeLaunch] = []
    yield started
    for host in started:
        for process in host.family():
            process.kill()
        host.process.communicate()
