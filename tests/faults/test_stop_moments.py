"""SIGTERM and SIGINT from exec to exit, whatever ranks are at: the end is bounded, its words are true, all is gone."""

from __future__ import annotations

import random
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from lockstep.launcher.runs.run_status import read_status
from lockstep.training.checkpoint.layout import list_checkpoints, step_of
from lockstep.training.checkpoint.manifest import newest_intact, read_state
from tests.helpers.fault_launch import FaultyLaunch, cleaned_up
from tests.helpers.launch import outcome_of, run_folder
from tests.helpers.paths import PROGRAMS

SEED = 13
DRAWS = 40
LONGEST_SECONDS = 7.0  # to the latest moment after exec: by then they train, or have trained
STOP_TIMEOUT = "2"
PLACES = ("", "start", "first", "middle", "evaluation", "checkpoint")
"""Where rank 1 is stuck for ever; nowhere, a third of the time."""
PROMISE = re.compile(
    r"stopping \((\w+)\): a checkpoint is written at step ([\d,]+) at the latest, within 2 s;"
)


@dataclass(frozen=True)
class Moment:
    """One draw: where rank 1 is stuck, the signal, and when it comes: so long after exec, or once it is stuck."""

    place: str
    number: signal.Signals
    seconds: float | None


def moments() -> list[Moment]:
    draw = random.Random(SEED)
    found = []
    for index in range(DRAWS):
        place = PLACES[index % 6]
        is_seen = bool(place) and draw.random() < 0.6
        seconds = None if is_seen else round(draw.uniform(0, LONGEST_SECONDS), 2)
        found.append(Moment(place, draw.choice([signal.SIGTERM, signal.SIGINT]), seconds))
    return found


SAMPLE = [
    Moment("start", signal.SIGTERM, None),
    Moment("middle", signal.SIGTERM, None),
]


@pytest.mark.parametrize(
    "moment",
    [*SAMPLE, *(pytest.param(moment, marks=pytest.mark.exhaustive) for moment in moments())],
    ids=lambda moment: f"{moment.place or 'well'}-{moment.number.name}-{moment.seconds}",
)
def test_a_stop_is_bounded_and_its_words_are_true(own: Path, tmp_path: Path, moment: Moment) -> None:
    settings = [
        f"model.use={PROGRAMS / 'fault_model.py'}:model",
        "train.epochs=400",
        "checkpoint.every_epochs=5",
    ]
    command = ["train", str(own / "own.yaml"), *settings, "--cpu", "2", "--name", "moment"]
    planted = {"FAULT": f"wait 1 {moment.place}" if moment.place else "none 0 never"}
    run = FaultyLaunch([*command, "--stop-timeout", STOP_TIMEOUT], tmp_path, env=planted)
    with cleaned_up(run):
        if moment.seconds is None:
            run.wait_until_ready()
        else:
            time.sleep(moment.seconds)
        run.process.send_signal(moment.number)
        status, err = run.end()
        run.check_nothing_is_left()
    check_words(moment, status, err)


def check_words(moment: Moment, status: int, err: str) -> None:
    """Whichever way it ended: what was said is what is there."""
    number, folder = moment.number, run_folder("moment")
    if (
        status in (-number, 1) and not folder.exists()
    ):  # the interpreter was starting: no line of ours had run yet
        return
    assert "Traceback" not in err, err
    if status == 0:  # it was faster
        return
    steps = [step_of(path) for path in list_checkpoints(folder / "checkpoints")]
    promise = PROMISE.search(err)
    if promise is None:
        assert status == 128 + number, err
        assert steps == [], err
        assert (
            not folder.exists()
            or f"stopped ({number.name}) before the first step: there was nothing to save" in err
        )
        assert not folder.exists() or read_status(folder).status == "stopped"
        return
    assert promise[1] == number.name
    if status == 75:
        outcome = outcome_of("moment")
        assert (outcome["status"], outcome["exit_code"]) == ("stopped", 75)
        assert 0 < outcome["steps"] <= int(promise[2].replace(",", ""))
        assert read_state(newest_intact(folder / "checkpoints")[0])["step"] == outcome["steps"]
        assert f"stopped after {outcome['steps']:,} steps" in err
    else:
        assert moment.place, "ranks that are well have the time"
        assert status == 128 + number, err
        assert f"stopping ({number.name}) took more than 2 s: it was ended without a checkpoint" in err
        assert read_status(folder).status == "failed"
