from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.data.common.errors import LockstepError, MachineError, UsageError
from lockstep.data.config.data_look import DataLook, PartLook, SplitLook, ValueKind
from lockstep.data.config.dataset_info import DatasetInfo, SplitInfo
from lockstep.launcher.machine.machine import Machine
from lockstep.launcher.machine.placement import choose_layout
from lockstep.launcher.train.plan import LaunchPlan, plan_summary, plan_table
from lockstep.training.config.run_config import RunConfig

LAPTOP = Machine(cores=8, gpus=(), hostname="laptop")
SERVER = Machine(cores=16, gpus=("4", "GPU-abc", "7"), hostname="server")
FACTS = DatasetInfo(
    name="pictures",
    kind="arrays",
    train=SplitInfo(1009, {}),
    val=SplitInfo(211, {}),
    input_shape=(1, 8, 8),
    input_dtype="uint8",
    classes=3,
    class_names=None,
    target_shape=(),
    mean=None,
    std=None,
)


def _plan(cpu: int = 2, machine: Machine = LAPTOP, n: int = 1009, **data: object) -> LaunchPlan:
    config = RunConfig.model_validate({"data": {"batch_size": 31, **data}, "train": {"epochs": 2}})
    facts = replace(FACTS, train=SplitInfo(n, {}))
    return LaunchPlan("first", config, facts, choose_layout(machine, None, cpu))


def test_with_neither_option_it_is_every_gpu_else_one_cpu_process() -> None:
    world = choose_layout(SERVER, None, None)
    assert (world.device, world.processes, world.gpus, world.threads) == ("gpu", 3, SERVER.gpus, 5)
    world = choose_layout(LAPTOP, None, None)
    assert (world.device, world.processes, world.gpus, world.threads) == ("cpu", 1, (), 8)


@pytest.mark.parametrize(
    ("asked", "gpus"),
    [
        ("all", ("4", "GPU-abc", "7")),
        ("2", ("4", "GPU-abc")),
        ("3", ("4", "GPU-abc", "7")),
        ("0,", ("4",)),
        ("2,0", ("7", "4")),
        (" 1 , 2 ", ("GPU-abc", "7")),
    ],
)
def test_gpus_are_counted_or_listed_among_those_that_are_visible(asked: str, gpus: tuple[str, ...]) -> None:
    assert choose_layout(SERVER, asked, None).gpus == gpus


@pytest.mark.parametrize("asked", ["0", "-1", "1.5", "", ",", "a", "0;1", "0,0", "1,01", "²"])
def test_gpus_that_make_no_sense_are_refused(asked: str) -> None:
    with pytest.raises(UsageError):
        choose_layout(SERVER, asked, None)


@pytest.mark.parametrize(
    ("machine", "asked"), [(SERVER, "4"), (SERVER, "0,3"), (LAPTOP, "all"), (LAPTOP, "1")]
)
def test_gpus_that_are_not_there_are_refused(machine: Machine, asked: str) -> None:
    with pytest.raises(MachineError, match="this machine has") as caught:
        choose_layout(machine, asked, None)
    assert "--cpu" in caught.value.hint


@pytest.mark.parametrize("cpu", [0, -3])
def test_fewer_than_one_process_is_refused(cpu: int) -> None:
    with pytest.raises(UsageError, match=f"--cpu {cpu}"):
        choose_layout(LAPTOP, None, cpu)


def test_both_options_at_once_are_refused() -> None:
    with pytest.raises(UsageError, match="exclude"):
        choose_layout(SERVER, "1", 1)


@given(
    cores=st.integers(1, 64),
    gpus=st.integers(0, 8),
    asked=st.none() | st.sampled_from(["all", "1", "3", "0,", "2,1", "x", "", "-1", "99"]),
    cpu=st.none() | st.integers(-2, 80),
)
def test_it_is_what_was_asked_for_or_an_error(
    cores: int, gpus: int, asked: str | None, cpu: int | None
) -> None:
    machine = Machine(cores, tuple(map(str, range(gpus))), "any")
    try:
        world = choose_layout(machine, asked, cpu)
    except LockstepError:
        return
    assert world.processes == (cpu or len(world.gpus) or 1)
    assert (world.device == "gpu") == bool(world.gpus) == (cpu is None and gpus > 0)
    assert 1 <= world.threads <= cores
    assert world.threads * world.processes <= max(cores, world.processes)
    assert len(set(world.gpus)) == len(world.gpus)
    if asked and asked.isdigit():
        assert world.processes == int(asked)


@given(
    n=st.integers(1, 5000), batch_size=st.integers(1, 300), cpu=st.integers(1, 9), limit=st.integers(1, 40)
)
def test_the_arithmetic_of_the_plan_adds_up(n: int, batch_size: int, cpu: int, limit: int) -> None:
    plan = _plan(cpu, n=n, batch_size=batch_size, max_micro_batch=limit)
    document = plan.to_json()
    assert json.loads(json.dumps(document)) == document
    assert document["steps"] == 2 * document["steps_per_epoch"] == plan.steps
    assert sum(document["shares"]) == min(batch_size, n)
    assert max(document["shares"]) - min(document["shares"]) <= 1
    assert sum(document["last_shares"]) == document["last_batch"] == (n - 1) % batch_size + 1
    assert sum(document["samples_per_epoch"]) == n
    assert [sum(parts) for parts in document["micro_batches"]] == document["shares"]
    assert all(size <= limit for parts in document["micro_batches"] for size in parts)
    assert len(plan_table(plan)) == cpu + 3


def test_a_limit_of_steps_ends_the_run_earlier_but_not_later() -> None:
    for limit, steps in ((7, 7), (66, 66), (1000, 66)):
        plan = _plan()
        config = plan.config.model_copy(
            update={"train": plan.config.train.model_copy(update={"max_steps": limit})}
        )
        assert replace(plan, config=config).steps == steps


def test_the_plan_line_says_processes_cores_data_and_batch() -> None:
    (line,) = plan_summary(_plan(2))
    assert line == (
        "first: 2 CPU processes on 8 cores, pictures 1,009 + 211, batch 31 = 15 + 16, 33 steps/epoch"
    )
    (line,) = plan_summary(_plan(1, replace(LAPTOP, cores=1)))
    assert "1 CPU process on 1 core," in line


def test_many_shares_are_counted_instead_of_listed() -> None:
    line, note = plan_summary(_plan(9))
    assert "batch 31 = 4 x 4 + 5 x 3" in line
    assert note == "note: 9 processes share 8 cores"


def test_gpus_are_named_and_threads_are_not() -> None:
    plan = replace(_plan(), world=choose_layout(SERVER, "2", None))
    (line,) = plan_summary(plan)
    assert "first: 2 GPU processes, pictures" in line
    assert [row[6:].split("  ")[0].strip() for row in plan_table(plan)[1:3]] == ["gpu 4", "gpu GPU-abc"]


def test_idle_processes_are_told() -> None:
    plan = _plan(4, batch_size=3)
    assert plan_summary(plan)[1:] == ["note: a batch of 3 leaves 1 of 4 processes idle"]
    assert "idle" in "\n".join(plan_table(plan))


def test_without_validation_data_none_is_promised() -> None:
    plan = _plan()
    line = plan_summary(replace(plan, facts=replace(plan.facts, val=None)))[0]
    assert "pictures 1,009, batch" in line


def test_classes_of_files_and_notes_about_the_data_are_in_the_plan() -> None:
    plan = _plan()
    names = ("cat", "a\nb", *(f"c{number}" for number in range(8)))
    train = replace(plan.facts.train, class_counts=(1000, *range(9)))
    facts = replace(plan.facts, kind="images", class_names=names, train=train, notes=("3 are grey",))
    shown = "cat (1,000), a\\u000ab (0), c0 (1), c1 (2), c2 (3), c3 (4), c4 (5), c5 (6), and 2 more"
    assert plan_summary(replace(plan, facts=facts))[1:] == [f"10 classes: {shown}", "note: 3 are grey"]


def test_the_plan_introduces_the_data() -> None:
    plan = _plan()
    kinds = (ValueKind("float32", ((3, 9), (4, 4)), 60), ValueKind("float64", ((4, 4),), 1))
    parts = (
        PartLook("input", kinds, -0.5, 1 / 3, 0),
        PartLook("target", (ValueKind("int64", (), 61),), 0, 12345, 0),
        PartLook("target\n", (ValueKind("str", (), 61),), None, None, 0),
    )
    look = DataLook(SplitLook(61, 1009, 0, parts), SplitLook(7, 211, 0, ()), ("odd",))
    facts = replace(plan.facts, look=look, train=replace(plan.facts.train, class_counts=(5, 1004)))
    plan = replace(plan, facts=facts)
    described = (
        "input float32 [3 to 9, 4] or float64 [4] from -0.5 to 0.3333, target int64 from 0 to 12,345,"
        " target\\u000a str (in 61 of 1,009 and 7 of 211 samples)"
    )
    assert plan_summary(plan)[1:] == [
        described,
        "2 classes: 0 (5), 1 (1,004)",
        "note: odd",
    ]
    document = json.loads(json.dumps(plan.to_json()))["data"]
    assert document["class_counts"] == [5, 1004]
    assert document["notes"] == ["odd"]
    assert DataLook.from_json(document["look"]) == look


def test_a_length_in_steps_is_said_in_epochs_too() -> None:
    plan = _plan()
    config = RunConfig.model_validate({"data": {"batch_size": 31}, "train": {"steps": 50}})
    in_steps = replace(plan, config=config)
    assert (in_steps.steps, in_steps.to_json()["steps"]) == (50, 50)
    assert plan_table(in_steps)[-2].startswith("50 steps = 1.515 epochs of 33 steps;")
    assert plan_table(plan)[-2].startswith("2 epochs x 33 steps = 66 steps;")


def test_a_warm_up_that_is_longer_than_the_run_is_noted() -> None:
    config = RunConfig.model_validate(
        {"schedule": {"warmup": 66}, "train": {"epochs": 2}, "data": {"batch_size": 31}}
    )
    line = "note: the warm-up of 66 steps is not over at the end of the run, after 66 steps"
    assert line in plan_summary(replace(_plan(), config=config))
    shorter = config.model_copy(update={"schedule": config.schedule.model_copy(update={"warmup": None})})
    assert line not in plan_summary(replace(_plan(), config=shorter))
