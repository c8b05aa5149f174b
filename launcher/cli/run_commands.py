"""Commands on existing runs, on this machine or in SLURM: signatures only, as in ``app.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import json_errors
from .adopted_world import refuse_copies
from .options import (
    ComparedArgument,
    ConfigArgument,
    CpuOption,
    ForceOption,
    GpusOption,
    IgnoreWorldOption,
    JsonOption,
    OverridesArgument,
    RemovedArgument,
    RunArgument,
    RunningArgument,
    ScaledArgument,
    SortOption,
    StatusArgument,
    split_config,
    split_run,
)

app = typer.Typer()

WaitOption = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait until it is done.")
]


@app.command(
    rich_help_panel="Look",
    epilog="launch status   # all runs\nlaunch status first --watch",
)
def status(
    run: StatusArgument = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Update the output as the run changes.")] = False,
    sort: SortOption = None,
    json: JsonOption = False,
) -> None:
    """Show the state of a run or sweep, or list all runs, newest first."""
    from ..commands import show_status

    with json_errors(json=json):
        raise typer.Exit(show_status(run, watch=watch, as_json=json, sort=sort))


@app.command(
    rich_help_panel="Look",
    epilog="launch logs -f   # of the run that is running\nlaunch logs first --rank 2",
)
def logs(
    run: RunArgument = None,
    *,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Follow the logs until the run is over.")
    ] = False,
    rank: Annotated[int | None, typer.Option(metavar="K", help="Show this rank only.")] = None,
    attempt: Annotated[
        int | None, typer.Option(metavar="K", help="Show this attempt instead of the newest.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what a training printed, then what the ranks wrote; a line of several ranks is shown once, with them."""
    from ..commands import show_logs
    from ..runs import current_run

    with json_errors(json=json):
        run = run or current_run()
        raise typer.Exit(show_logs(run, follow=follow, rank=rank, attempt=attempt, as_json=json))


@app.command(
    rich_help_panel="Use what was trained",
    epilog="launch predict first photos/ --out classes.csv\nlaunch predict first --split val --format jsonl",
)
def predict(
    run: RunArgument = None,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILES|FOLDER|CSV|-", help="Images, a folder of them, or tables; - for stdin."
        ),
    ] = None,
    *,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Predict this split of the data set, such as val.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="STEP|best", help="Use this checkpoint instead of the newest.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print the model's output, not class and probability.")
    ] = False,
    resize: Annotated[
        bool, typer.Option("--resize", help="Resize images to the size that the model was trained on.")
    ] = False,
    form: Annotated[str, typer.Option("--format", metavar="csv|jsonl", help="How rows are printed.")] = "csv",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the rows to this file.")] = None,
    force: ForceOption = False,
    gpus: GpusOption = None,
    cpu: CpuOption = None,
    ignore_world: IgnoreWorldOption = False,
) -> None:
    """Print what a run's model says of each input: class and probability, or its output."""
    from ..inference import Prediction, predict_with_run
    from ..runs import current_run, has_checkpoint
    from ..train import TrainRequest

    refuse_copies("predict", ignore_world=ignore_world)
    run, sources = split_run(run, inputs)
    run = run or current_run(has_checkpoint)
    asked = Prediction(tuple(sources), split, checkpoint, resize, raw, form, out, force)
    raise typer.Exit(predict_with_run(run, TrainRequest(gpus=gpus, cpu=cpu, json=False), asked))


@app.command(
    rich_help_panel="Look",
    epilog="launch compare   # the two newest trainings\nlaunch compare first second",
)
def compare(
    run: ComparedArgument = None, other: ComparedArgument = None, *, json: JsonOption = False
) -> None:
    """Show in what two runs differ: settings, versions, data, and the first step whose loss is another."""
    from ..commands import compare_runs
    from ..runs import compared_runs

    with json_errors(json=json):
        pair = compared_runs([name for name in (run, other) if name is not None])
        raise typer.Exit(compare_runs(*pair, as_json=json))


@app.command(
    rich_help_panel="Stop and clear",
    epilog="launch stop first   # `launch resume first` continues it",
)
def stop(run: RunningArgument = None, *, wait: WaitOption = 60.0, json: JsonOption = False) -> None:
    """Stop a run with a checkpoint; `launch resume` continues it."""
    from ..commands import stop_run
    from ..runs import running_run

    with json_errors(json=json):
        name = run or running_run("stop")
        raise typer.Exit(stop_run(name, wait) or (_show_status(name) if json else 0))


@app.command(
    rich_help_panel="Stop and clear",
    epilog="launch checkpoint first",
)
def checkpoint(run: RunningArgument = None, *, wait: WaitOption = 60.0, json: JsonOption = False) -> None:
    """Make a run write a checkpoint now and continue."""
    from ..commands import checkpoint_run
    from ..runs import running_run

    with json_errors(json=json):
        name = run or running_run("checkpoint")
        raise typer.Exit(checkpoint_run(name, wait) or (_show_status(name) if json else 0))


@app.command(
    rich_help_panel="Train",
    epilog="launch scale first 3   # `train.elastic` allows it",
)
def scale(
    run: ScaledArgument,
    processes: Annotated[int, typer.Argument(metavar="N", min=1, help="How many processes it is to have.")],
    *,
    wait: WaitOption = 120.0,
    json: JsonOption = False,
) -> None:
    """Change the number of processes of a run while it trains, without a trace in its numbers (train.elastic)."""
    from ..commands import scale_run

    with json_errors(json=json):
        raise typer.Exit(scale_run(run, processes, wait) or (_show_status(run) if json else 0))


@app.command(
    rich_help_panel="Stop and clear",
    epilog="launch cancel first",
)
def cancel(
    run: RunningArgument = None,
    *,
    grace: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Time between SIGTERM and SIGKILL.")
    ] = 5.0,
    json: JsonOption = False,
) -> None:
    """End a run at once."""
    from ..commands import cancel_run
    from ..runs import running_run

    with json_errors(json=json):
        name = run or running_run("cancel")
        raise typer.Exit(cancel_run(name, grace) or (_show_status(name) if json else 0))


@app.command(
    rich_help_panel="Look",
    epilog="launch show exp.yaml --out pictures/samples.png",
)
def show(
    config: ConfigArgument = None,
    overrides: OverridesArgument = None,
    *,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write the picture to.")] = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Draw the first training samples and count the samples of each class."""
    from ..commands import show_samples
    from ..config import resolve

    with json_errors(json=json):
        raise typer.Exit(
            show_samples(resolve(*split_config(config, overrides)), out, force=force, as_json=json)
        )


@app.command(
    rich_help_panel="Stop and clear",
    epilog="launch rm first second   # it asks first",
)
def rm(
    runs: RemovedArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove runs for good; it asks first, and refuses what is running or queued."""
    from ..commands import remove_runs

    with json_errors(json=json):
        raise typer.Exit(remove_runs(runs, yes=yes, as_json=json))


def _show_status(name: str) -> int:
    """Print how a run is now, as ``launch status NAME --json`` does."""
    from ..commands import show_status

    return show_status(name, watch=False, as_json=True)


@app.command(
    rich_help_panel="Stop and clear",
    epilog="launch cache   # what is there\nlaunch cache --remove   # all that is not in use",
)
def cache(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ENTRY]...", help="Entries; all by default.")
    ] = None,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Remove them unless they are in use.")] = False,
    json: JsonOption = False,
) -> None:
    """List the cache of decoded images and arrays, which fills itself, or make room."""
    from ..commands import show_cache

    with json_errors(json=json):
        raise typer.Exit(show_cache(names or [], remove=remove, as_json=json))
