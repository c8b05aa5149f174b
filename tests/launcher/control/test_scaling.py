"""``launch scale``, the supervisor's side: what is refused, and a change from its request to its answer."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from lockstep.launcher.control import scaling
from lockstep.launcher.control.horizon_control import HorizonControl
from lockstep.launcher.control.scaling import Scaling
from lockstep.launcher.runs.scale_requests import ScaleAnswer, read_scale_answer, write_scale_request
from lockstep.training.config.train_parts import ElasticConfig
from lockstep.training.rank.control_page import ControlPage, RankControl
from lockstep.training.rank.members import WorldChange


class Processes:
    """Processes that are only counted."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, WorldChange]] = []
        self.failure = ""
        self.are_ending = False
        self.killed: dict[int, int] = {}

    def begin_rescue(self, change: WorldChange) -> None:
        self.calls.append(("rescue", change))
        self.killed = {}

    def start_joining(self, change: WorldChange) -> None:
        self.calls.append(("start", change))

    def begin_change(self, change: WorldChange) -> None:
        self.calls.append(("begin", change))

    def end_change(self, change: WorldChange) -> None:
        self.calls.append(("end", change))

    def end_joining(self, change: WorldChange) -> None:
        self.calls.append(("kill", change))

    def failed_to_join(self) -> str:
        return self.failure


class Run:
    """A run of two ranks in ``folder`` that may have 1 to 4."""

    def __init__(self, folder: Path, elastic: ElasticConfig | None) -> None:
        self.folder, self.processes = folder, Processes()
        self.control = HorizonControl(folder, 2)
        self.scaling = Scaling(folder, self.control, elastic, 2)
        page = ControlPage(Path(self.control.environment["LOCKSTEP_CONTROL"]), 4)
        self.ranks = [RankControl(page, number) for number in range(4)]
        self.control.tick()
        for rank in self.ranks[:2]:
            rank.enter("training")

    def ask(self, processes: int) -> ScaleAnswer | None:
        request = write_scale_request(self.folder, processes)
        assert request is not None
        self.request = request
        return self.tick()

    def tick(self) -> ScaleAnswer | None:
        self.scaling.tick(self.processes)
        return read_scale_answer(self.folder, self.request)

    def step(self, count: int = 1) -> None:
        for step in range(count + 1):
            assert all(rank.may_start(step) for rank in self.ranks[:2])
        self.control.tick()

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.processes.calls]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, ElasticConfig(min=1, max=4))


def test_a_change_from_its_request_to_its_answer(run: Run) -> None:
    assert run.ask(3) is None
    assert run.kinds == ["start"], "who joins builds its model beside the training"
    run.step()
    assert run.tick() is None
    change = WorldChange(1, (0, 1), (0, 1, 2))
    run.ranks[2]._words[run.ranks[2]._own + 3] = 1  # as await_change says that it is ready
    assert run.tick() is None
    assert run.processes.calls == [("start", change), ("begin", change)]
    at = run.control.horizon.value
    for rank in run.ranks[:3]:
        assert run.tick() is None
        rank.enter_world(change, at)
    answer = run.tick()
    assert answer == ScaleAnswer(
        run.request.number,
        done=True,
        message=f"3 processes instead of 2 from step {at} on",
        processes=3,
        before=2,
        step=at,
    )
    assert run.kinds == ["start", "begin", "end"]
    assert run.control.horizon.rows == (0, 1, 2)


def test_nothing_changes_before_the_first_step(run: Run) -> None:
    assert run.ask(1) is None
    assert run.kinds == []
    run.step()
    run.tick()
    assert run.kinds == ["begin"]


@pytest.mark.parametrize(
    ("size", "words"),
    [(5, "5 processes are not within 1 to 4"), (2, "it has 2 already")],
)
def test_what_is_not_allowed_or_there_already_is_said(run: Run, size: int, words: str) -> None:
    answer = run.ask(size)
    assert answer is not None
    assert not answer.done
    assert words in answer.message
    assert run.kinds == []


def test_a_run_that_is_not_elastic_says_so(tmp_path: Path) -> None:
    answer = Run(tmp_path, None).ask(3)
    assert answer is not None
    assert "train.elastic is not set" in answer.message


def test_one_change_after_the_other(run: Run) -> None:
    run.ask(3)
    first = run.request
    answer = run.ask(1)
    assert answer is not None
    assert answer.message == "a change to 3 processes is under way"
    assert read_scale_answer(run.folder, first) is None
    run.scaling.close()
    ended = read_scale_answer(run.folder, first)
    assert ended is not None
    assert ended.message == "the run has ended before"


def test_a_request_waits_until_those_before_it_have_ended(run: Run) -> None:
    run.processes.are_ending = True
    assert run.ask(3) is None
    assert run.kinds == []
    run.processes.are_ending = False
    run.tick()
    assert run.kinds == ["start"]


def test_a_process_that_cannot_join_costs_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.ask(3)
    run.step()
    run.processes.failure = "process 2 could not join: no file"
    answer = run.tick()
    assert answer is not None
    assert answer.message == "process 2 could not join: no file"
    assert run.kinds == ["start", "kill"]

    run.processes.failure = ""
    monkeypatch.setattr(scaling, "_JOIN_SECONDS", -1)
    answer = run.ask(3)
    assert answer is not None
    assert answer.message == "a process was not ready in time"
    assert run.kinds == ["start", "kill", "start", "kill"]


def test_a_stop_comes_before_a_change(run: Run) -> None:
    run.step()
    run.ask(3)
    run.control.stop("a test", signal.SIGTERM)
    answer = run.tick()
    assert answer is not None
    assert answer.message == "the run is stopping"
    assert run.kinds == ["start", "kill"]
    answer = run.ask(1)
    assert answer is not None
    assert answer.message == "the run is stopping"


@pytest.mark.parametrize("dead", [1, 0], ids=["the second", "the first, which writes the record"])
def test_the_others_go_on_without_who_has_died_and_another_takes_its_place(run: Run, dead: int) -> None:
    left = 1 - dead  # who stays is the first of the next world
    run.step()
    run.processes.killed = {dead: signal.SIGKILL}
    run.scaling.tick(run.processes)
    change = run.ranks[left].await_rescue((0, 1), 0)
    assert change == WorldChange(1, (0, 1), (left,), is_rescue=True)
    assert run.processes.calls == [("rescue", change)]
    assert run.scaling.tick(run.processes) is None
    run.ranks[left].enter_world(change, 1)
    assert run.scaling.tick(run.processes) == change
    run.scaling.tick(run.processes)
    assert run.processes.calls[1:] == [("end", change), ("start", WorldChange(2, (left,), (left, dead)))]


def test_another_one_is_tried_where_one_cannot_take_a_place(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.step()
    run.processes.killed = {1: signal.SIGKILL}
    run.scaling.tick(run.processes)
    run.ranks[0].enter_world(WorldChange(1, (0, 1), (0,), is_rescue=True), 1)
    run.processes.failure = "process 1 could not join: it has ended"
    for _ in range(20):
        run.scaling.tick(run.processes)
    assert run.kinds == ["rescue", "end", *["start", "kill"] * 3], "train.elastic.deaths is 3"
    said = capsys.readouterr()
    words = (said.out + said.err).replace("\n", " ")
    assert words.count("another is started") == 2
    assert words.count("nothing takes the place of a process that has died: process 1 could not join") == 1


def test_who_was_to_join_is_called_off_by_a_death(run: Run) -> None:
    run.step()
    assert run.ask(3) is None
    run.processes.killed = {1: signal.SIGKILL}
    answer = run.tick()
    assert answer is not None
    assert answer.message == "a process has died meanwhile"
    assert run.kinds == ["start", "kill", "rescue"]


@pytest.mark.parametrize(
    ("elastic", "killed", "phase", "words"),
    [
        (ElasticConfig(min=2, max=4), {1: 9}, "training", "1 would be left, and train.elastic.min is 2"),
        (ElasticConfig(max=4), {1: 9}, "evaluation", "the ranks were not at a step (evaluation)"),
        (ElasticConfig(max=4, deaths=0), {1: 9}, "training", "train.elastic.deaths is used up"),
    ],
)
def test_where_the_others_cannot_go_on_that_is_said_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    elastic: ElasticConfig,
    killed: dict[int, int],
    phase: str,
    words: str,
) -> None:
    run = Run(tmp_path, elastic)
    run.step()
    for rank in run.ranks[:2]:
        rank.enter("training")
    run.ranks[0].enter(phase)
    run.processes.killed = killed
    run.scaling.tick(run.processes)
    run.ranks[0].enter("training")
    run.scaling.tick(run.processes)
    assert run.kinds == []
    said = capsys.readouterr()
    assert (said.out + said.err).replace("\n", " ").count(words) == 1


def test_a_death_in_a_change_and_before_the_first_step_ends_the_attempt(run: Run) -> None:
    run.processes.killed = {1: signal.SIGKILL}
    run.scaling.tick(run.processes)
    run.scaling.restart()
    run.step()
    run.processes.killed = {}
    assert run.ask(1) is None
    assert run.kinds == ["begin"]
    run.processes.killed = {1: signal.SIGKILL}
    run.tick()
    assert run.kinds == ["begin"]
