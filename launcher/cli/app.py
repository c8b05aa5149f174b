"""The command line: signatures, and bodies that import what they need. Nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from ...data.common import UsageError
from ..console import json_errors, run_with_error_card
from ..options import NodeOptions, SupervisionOptions
from . import run_commands as cli_runs
from . import sandbox_commands as cli_slurm
from . import submit_command as cli_submit
from .options import (
    AtOnceOption,
    GraceOption,
    GridArgument,
    HangOption,
    JsonOption,
    NodeRankOption,
    NodesOption,
    NodeTimeoutOption,
    RendezvousOption,
    RestartsOption,
    SortOption,
    SubmitOption,
    SweepArgument,
    first_positional,
    given,
    split_config,
)
from .slurm_options import JobCommand, JobOptions


class _Commands(typer.core.TyperGroup):
    """A script or a config in the place of a command is told its command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        for ending, command in ((".py", "run"), (".yaml", "train"), (".yml", "train")):
            if args and args[0].endswith(ending):
                raise UsageError(f"{args[0]}: not a command", f"launch {command} [OPTIONS] {args[0]}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Distributed training in which the number of processes is a resource, never a hyper-parameter.",
)

ConfigArgument = Annotated[
    str | None,
    typer.Argument(metavar="[CONFIG]", help="A recipe's name or a YAML file; `digits` if not given."),
]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[key=value]...", help="Settings that win over the file.")
]
GpusOption = Annotated[
    str | None,
    typer.Option(
        metavar="N|all|idle|0,2|UUID", help="One process on each of these GPUs; `idle`: unused ones."
    ),
]
CpuOption = Annotated[int | None, typer.Option(metavar="N", help="N processes on the CPU.")]


@app.command()
def train(
    config: ConfigArgument = None,
    overrides: OverridesArgument = None,
    *,
    gpus: GpusOption = None,
    cpu: CpuOption = None,
    name: Annotated[str | None, typer.Option(help="The run's name; made up if not given.")] = None,
    resume: Annotated[
        str, typer.Option(metavar="auto|never|RUN", help="Go on with the run of that --name, or with RUN.")
    ] = "auto",
    nodes: NodesOption = NodeOptions.count,
    node_rank: NodeRankOption = NodeOptions.rank,
    rendezvous: RendezvousOption = NodeOptions.rendezvous,
    node_timeout: NodeTimeoutOption = NodeOptions.timeout,
    hang_timeout: HangOption = SupervisionOptions.hang_timeout,
    max_restarts: RestartsOption = SupervisionOptions.max_restarts,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and start nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Train on every visible GPU, else on one CPU process."""
    from ..config import resolve
    from ..console import say
    from ..train import TrainRequest, read_run_config, training_run

    with json_errors(json=json):
        source, settings = split_config(config, overrides)
        own = source is None and resume not in ("auto", "never")
        resolved = read_run_config(resume, settings) if own else resolve(source, settings)
        say(f"note: {note}" for note in resolved.notes)
        where = NodeOptions(nodes, node_rank, rendezvous, node_timeout)
        patience = SupervisionOptions(hang_timeout, max_restarts)
        request = TrainRequest(gpus, cpu, json, name, resume, where, patience)
        raise typer.Exit(
            training_run.dry_run(resolved, request) if dry_run else training_run.train(resolved, request)
        )


class _ProgramLast(typer.core.TyperCommand):
    """From SCRIPT or ``-m MODULE`` on, everything belongs to the program: ``--cpu`` after it, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = first_positional(self.params, args)
        own, program = args[:first], args[first:]
        return super().parse_args(ctx, [*own, *(["--"] if program and "--" not in own else []), *program])


@app.command(cls=_ProgramLast)
def run(
    program: Annotated[
        list[str],
        typer.Argument(
            metavar="SCRIPT|-m MODULE [ARGS]", help="As after `python`; what follows is the program's."
        ),
    ],
    *,
    gpus: GpusOption = None,
    cpu: CpuOption = None,
    name: Annotated[str | None, typer.Option(help="The run's name; made up if not given.")] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="One process here, where breakpoint() works.")
    ] = False,
    start: Annotated[
        str, typer.Option(metavar="fork|exec", help="`exec`: a fresh process for each rank, no fork.")
    ] = "fork",
    nodes: NodesOption = NodeOptions.count,
    node_rank: NodeRankOption = NodeOptions.rank,
    rendezvous: RendezvousOption = NodeOptions.rendezvous,
    node_timeout: NodeTimeoutOption = NodeOptions.timeout,
    hang_timeout: HangOption = SupervisionOptions.hang_timeout,
    max_restarts: RestartsOption = SupervisionOptions.max_restarts,
    grace: GraceOption = SupervisionOptions.grace,
) -> None:
    """Start any torchrun-style program, unchanged; its own exit status is passed on."""
    from ..script import ScriptRequest
    from ..script import debug as debug_here
    from ..script import run as run_it

    if start not in ("fork", "exec"):
        raise UsageError(f"--start {start}: not a way to start a process", "use fork or exec")
    where = NodeOptions(nodes, node_rank, rendezvous, node_timeout)
    patience = SupervisionOptions(hang_timeout, max_restarts, grace)
    command = ScriptRequest(program, gpus, cpu, name, start, where, patience)
    raise typer.Exit(debug_here(command) if debug else run_it(command))


_OF_A_LOCAL_RUN = ("nodes", "node_rank", "rendezvous", "node_timeout", "hang_timeout", "max_restarts")


@app.command()
def resume(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name or the path of its folder.")],
    overrides: OverridesArgument = None,
    *,
    gpus: GpusOption = None,
    cpu: CpuOption = None,
    nodes: NodesOption = NodeOptions.count,
    node_rank: NodeRankOption = NodeOptions.rank,
    rendezvous: RendezvousOption = NodeOptions.rendezvous,
    node_timeout: NodeTimeoutOption = NodeOptions.timeout,
    hang_timeout: HangOption = SupervisionOptions.hang_timeout,
    max_restarts: RestartsOption = SupervisionOptions.max_restarts,
    here: Annotated[bool, typer.Option("--local", help="Here, even if SLURM had it before.")] = False,
    json: JsonOption = False,
) -> None:
    """Train a run on, on as many processes as there are now; `train.epochs=N` extends it."""
    from ..runs import ANY_RUN, find_run
    from ..slurm import read_job
    from ..submit import refuse_never_started, resubmit_run
    from ..sweep import refuse_sweep
    from ..train import TrainRequest, read_run_config, training_run

    with json_errors(json=json):
        folder = find_run(run, ANY_RUN)
        refuse_sweep(folder)
        job = read_job(folder)
        if job is not None and not (here or gpus or cpu):
            said = [*(overrides or []), *given(ctx, _OF_A_LOCAL_RUN)]
            raise typer.Exit(resubmit_run(folder, job, said, as_json=json))
        if job is not None:
            refuse_never_started(folder, job)
        where = NodeOptions(nodes, node_rank, rendezvous, node_timeout)
        patience = SupervisionOptions(hang_timeout, max_restarts)
        request = TrainRequest(gpus, cpu, json, None, run, where, patience)
        raise typer.Exit(training_run.train(read_run_config(run, overrides or []), request))


@app.command("eval")
def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name or the path of its folder.")],
    *,
    gpus: GpusOption = None,
    cpu: CpuOption = None,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="STEP|best", help="This checkpoint, not the newest.")
    ] = None,
    hang_timeout: HangOption = SupervisionOptions.hang_timeout,
    json: JsonOption = False,
) -> None:
    """Evaluate a trained run on its validation data."""
    from ..train import TrainRequest
    from ..train import evaluate as evaluate_run

    with json_errors(json=json):
        request = TrainRequest(gpus=gpus, cpu=cpu, json=json, supervision=SupervisionOptions(hang_timeout))
        raise typer.Exit(evaluate_run(run, request, checkpoint))


@app.command()
def check(
    config: ConfigArgument = None,
    overrides: OverridesArgument = None,
    *,
    gpus: GpusOption = None,
    cpu: CpuOption = None,
    hang_timeout: HangOption = SupervisionOptions.hang_timeout,
    json: JsonOption = False,
) -> None:
    """Check in about a minute that your model and data are exact: N processes (2) against one, kill and resume."""
    from ..check import check as checked
    from ..config import resolve
    from ..train import TrainRequest

    with json_errors(json=json):
        resolved = resolve(*split_config(config, overrides))
        request = TrainRequest(gpus=gpus, cpu=cpu, json=json, supervision=SupervisionOptions(hang_timeout))
        raise typer.Exit(checked(resolved, request))


@app.command()
def show(
    config: ConfigArgument = None,
    overrides: OverridesArgument = None,
    *,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the picture goes.")] = None,
    json: JsonOption = False,
) -> None:
    """Show the first training samples as a picture, and how many samples each class has."""
    from ..commands import show as look
    from ..config import resolve

    with json_errors(json=json):
        raise typer.Exit(look.show(resolve(*split_config(config, overrides)), out, as_json=json))


@app.command(cls=JobCommand)
def sweep(
    config: SweepArgument = None,
    settings: GridArgument = None,
    *,
    gpus: GpusOption = None,
    cpu: CpuOption = None,
    name: Annotated[str | None, typer.Option(help="The sweep's name; made up if not given.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Launch points that failed again, too.")] = False,
    sort: SortOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the points and start nothing.")] = False,
    json: JsonOption = False,
    submit: SubmitOption = False,
    at_once: AtOnceOption = None,
    slurm: JobOptions,
) -> None:
    """Train a grid of settings, a run for each point, and print a table of the results."""
    from ..sweep import SweepRequest, find_sweep, is_submitted_sweep, run_local_sweep, submit_sweep

    with json_errors(json=json):
        chosen = {key: slurm[key] for key in ("hang_timeout", "max_restarts") if slurm[key] is not None}
        what = split_config(config, settings)
        job = {"submit": submit, "cluster": slurm.pop("cluster"), "slurm": slurm, "at_once": at_once}
        request = SweepRequest(
            *what, gpus, cpu, name, SupervisionOptions(**chosen), retry, sort, dry_run, json, **job
        )
        found = find_sweep(request)
        raise typer.Exit(
            (submit_sweep if is_submitted_sweep(found, request) else run_local_sweep)(found, request)
        )


app.add_typer(cli_runs.app)
app.add_typer(cli_submit.app)
app.add_typer(cli_slurm.app)


@app.callback(invoke_without_command=True)
def version(
    *, version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False
) -> None:
    """Handle what stands before a command."""
    if version:
        from ... import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """The console command: every error that is meant for people becomes a card and an exit status."""
    run_with_error_card(app)
