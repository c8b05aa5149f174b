"""The hooks of a run: loaded, and given the frames in which they run."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from ..hooks import HookLog, Hooks, RunProgress, load_hooks
from ..parallel import whole_parameters
from ..session import EvaluationDraws, HookDraws, Session, evaluation_mode
from ..tracking import EventLog


def build_hooks(session: Session, events: EventLog, folder: Path, progress: RunProgress) -> Hooks:
    """Load the hooks that ``hooks:`` names.

    Args:
        session: of this rank.
        events: rank 0's record, which takes what they log.
        folder: of the run.
        progress: of the run, always up to date.

    Raises:
        UsageError: there are no such functions.
    """
    config, group = session.spec.config, session.group
    functions = load_hooks(config.hooks, session.spec.base)
    log = HookLog(group, events, folder, session.logged_names)
    draws = EvaluationDraws(session.model, config.train.seed, group.device)
    often = HookDraws(group.device)
    return Hooks(functions, session.model, log, (draws, often), lambda: evaluation_mode(session), progress)


def tell_of_evaluation(hooks: Hooks, session: Session, measured: dict[str, float]) -> dict[str, float]:
    """Call the hook of an evaluation, in which a rank may call the model by itself; return what it logs. Collective."""
    hooked = hooks.use_of("on_evaluate") is not None
    with whole_parameters(session.module) if hooked else nullcontext():
        return hooks.evaluated(measured)
