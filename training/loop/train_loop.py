"""Train and evaluate, epoch by epoch, every rank in step with the others."""

from __future__ import annotations

import gc
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from ...data.bad_samples import BadSamplesNews
from ...data.loading import StepBatch
from ..checkpoint import (
    CheckpointWriter,
    NextWorld,
    Progress,
    ResumedState,
    StepsDone,
    build_state,
    checkpoints_folder,
    save,
    training_hashes,
    writing_ranks,
)
from ..rank import FencingToken, RankControl, WorldChange
from ..session import Account, StepResult, StepSeeder, Training
from ..tracking import EventLog
from ..verification import Verifier
from .decisions import Decisions
from .evaluation import Views, evaluate
from .evaluation_times import EvaluationTimes
from .kept_views import keep_views
from .loss_meter import Reading
from .pace import Pace
from .run_hooks import build_hooks, tell_of_evaluation
from .run_result import run_result, start_facts
from .step_counts import StepCounts, samples_of
from .step_watch import StepWatch


class TrainLoop:
    """Runs a training to its end, or to where it is told to stop.

    Args:
        training: what was built.
        folder: the run folder.
        events: rank 0's record.
        resumed: what a checkpoint brought, whose tensors are in place already.
        fence: checked before a checkpoint is committed.
        control: says how far this rank may go.
        world: the way to another number of processes; None where they never change.
    """

    def __init__(
        self,
        training: Training,
        folder: Path,
        events: EventLog,
        resumed: ResumedState | None = None,
        fence: FencingToken | None = None,
        control: RankControl | None = None,
        world: NextWorld | None = None,
    ) -> None:
        session = self._session = training.session
        self._training = training
        self._config = session.spec.config.with_directions()
        self._events = events
        self._resumed = resumed
        self._control = control or RankControl(None, 0)
        self._world = world
        self._change: WorldChange | None = None
        self.progress = resumed.progress if resumed else Progress()
        self._changed_at = self.progress.step if resumed and resumed.joined else None
        self._last_checkpoint_step = resumed.last_checkpoint if resumed else None
        self._stopped = self._has_left = False
        self._decisions = Decisions(self._config, training, events)
        self._times = EvaluationTimes(self._config.train.eval_every, session.batches.steps)
        self._evaluation_seconds = 0.0  # within the epoch
        self._step_seeder = self._seeder()
        account, meter = (resumed.account, resumed.meter) if resumed else (Account(), None)
        self._counts = StepCounts(training, self.progress, account, meter, self._log_reading)
        self._pace = Pace(training)
        self._hooks = build_hooks(session, events, folder, self.progress)
        self._hook_notes = self._hooks.restore(resumed.hooks, resumed.hook_tensors) if resumed else []
        self._fence = fence or FencingToken(folder, None)
        keep = self._config.checkpoint.keep_last
        ranks = writing_ranks(training)
        self._writer = CheckpointWriter(checkpoints_folder(folder), events, self._fence.check, keep, ranks)
        step, touch = self.progress.step, self._control.touch
        self._verifier = Verifier.of_run(training, events, step, touch, self._writer.newest)
        self._watch = StepWatch(training, self._hooks, self._verifier, events, folder, self.progress)
        self._folder, self._bad = folder, BadSamplesNews(folder)

    def _seeder(self) -> StepSeeder:
        group = self._session.group
        return StepSeeder(self._config.train.seed, group.rank, group.device)

    def run(self) -> dict[str, Any]:
        """Train to the end; return what ``launch train --json`` prints, or nothing if others continue without it."""
        with nullcontext() if self._verifier is None else self._verifier.explaining():
            return self._run()

    def _run(self) -> dict[str, Any]:
        started = time.monotonic()
        self._begin_run()
        self._hooks.at("on_start")
        gc.collect()
        gc.freeze()  # what was imported and built lives as long as the run: no collection need look at it again
        while not self._stopped and not self._is_over():
            self._run_epoch()
        self._control.enter("ending")
        if self._has_left:
            return {}
        if self._is_stopped_early():
            self._decisions.tell_early_stop(self.progress)
        self._save_checkpoint()
        self._writer.finish()
        if not self._stopped:
            self._hooks.at("on_end")
        account, seconds = self._counts.account, time.monotonic() - started
        result = run_result(
            training_hashes(self._training), self.progress, account, seconds, stopped=self._stopped
        )
        return {"stopped_early": self._is_stopped_early(), **result}

    def _begin_run(self) -> None:
        self._decisions.refuse_settings(supervised=self._control.supervised)
        notes = [*self._training.notes, *(self._resumed.notes if self._resumed else []), *self._hook_notes]
        if self._session.group.rank == 0:
            notes += self._writer.open(self.progress.step if self._resumed else -1)
        self._control.begin(self.progress.step)
        self._control.enter("training")
        if self._changed_at is None:
            self._events.write("start", **start_facts(self._training), step=self.progress.step, notes=notes)

    def _is_over(self) -> bool:
        trained = self.progress.step >= self._training.steps and not self.progress.pending
        return trained or self._is_stopped_early()

    def _is_stopped_early(self) -> bool:
        return self._decisions.is_stopped_early(self.progress)

    @property
    def _is_within_epoch(self) -> bool:
        """Whether steps follow in this epoch."""
        progress = self.progress
        return progress.epoch_step < self._session.batches.steps and progress.step < self._training.steps

    def _run_epoch(self) -> None:
        progress = self.progress
        started, before, self._evaluation_seconds = time.monotonic(), self._samples_done, 0.0
        if progress.pending and self._is_within_epoch:
            self._evaluate_again()
        if not progress.pending and not self._is_ending:
            self._train_epoch()
        if self._is_ending:
            return
        trained = time.monotonic()
        due = self._times.is_due_after_epoch(progress.step, self._control, pending=progress.pending)
        evaluated = progress.step >= self._training.steps or due
        progress.metrics = progress.means
        progress.pending = True
        measured = self._evaluate() if evaluated else {}
        if measured is None:
            self._stopped = True
            return
        progress.metrics |= measured
        progress.pending = False
        if due and progress.epoch_step < self._session.batches.steps:
            self._tell_evaluation()  # a run that is extended keeps it
        pace = self._pace.epoch(self._samples_done - before, started + self._evaluation_seconds, trained)
        self._events.write("epoch", epoch=progress.epoch, step=progress.step, **progress.metrics, **pace)
        if message := self._bad.message():
            self._events.write("note", step=progress.step, message=message)
        self._finish_epoch(evaluated=evaluated, counts=due)

    @property
    def _is_ending(self) -> bool:
        return self._stopped or self._is_stopped_early()

    def _evaluate_again(self) -> None:
        """Make the evaluation within an epoch that a stop has cut short.

        Not where the run was to end there, and has been extended: it would not have had that one.
        """
        if self._times.by_clock or self._times.is_due(self.progress.step):
            self._evaluate_within_epoch()
        else:
            self.progress.pending = False

    def _evaluate_within_epoch(self) -> None:
        """Evaluate between two steps, which leaves the next one as it would be without."""
        progress, started = self.progress, time.monotonic()
        self._counts.read_pending()
        progress.metrics = self._counts.means()
        progress.pending = True
        measured = self._evaluate()
        if measured is None:
            self._stopped = True
            return
        progress.pending = False
        progress.metrics |= measured
        self._evaluation_seconds += time.monotonic() - started
        self._tell_evaluation(val_seconds=time.monotonic() - started)
        if self._decisions.take(progress, f"step {progress.step}: such an evaluation"):
            self._save_checkpoint()
        self._pace.pause()
        self._watch.begin()

    def _tell_evaluation(self, **more: float) -> None:
        progress = self.progress
        self._events.write("evaluation", epoch=progress.epoch, step=progress.step, **progress.metrics, **more)

    @property
    def _samples_done(self) -> int:
        """Samples of the epoch that were trained, on all ranks."""
        batches = self._session.batches
        return min(self.progress.epoch_step * batches.batch_size, batches.n)

    def _evaluate(self) -> dict[str, float] | None:
        """Evaluate with the average of the weights, where there is one; return None where a stop came in between."""
        before, views = self._control.enter("evaluation"), Views()
        if self._verifier is not None:
            self._verifier.pause()
        with self._training.ema.applied():
            batches = self._config.train.eval_batches
            measured = evaluate(self._session, self._should_abandon_evaluation, views, batches)
            if measured is not None:
                measured |= tell_of_evaluation(self._hooks, self._session, measured)
        if measured and self._session.group.rank == 0:
            self._fence.check()
            keep_views(self._folder, views, step=self.progress.step, epoch=self.progress.epoch)
        self._control.enter(before)
        return measured

    def _should_abandon_evaluation(self) -> bool:
        """Say between two batches of an evaluation whether a stop was requested; this is a sign of life, too."""
        self._control.touch()
        return self._control.stopping

    def _finish_epoch(self, *, evaluated: bool, counts: bool) -> None:
        """Finish an epoch that was trained to its last step; one cut short by the run's end is not finished.

        Args:
            evaluated: whether it was.
            counts: whether a longer run would have had that evaluation, too.
        """
        progress, checkpoint_config = self.progress, self._config.checkpoint
        where = f"epoch {progress.epoch + 1}: such an epoch"
        if progress.epoch_step < self._session.batches.steps:
            self._decisions.take(progress, where, counts=counts)
            return
        progress.epoch += 1
        progress.epoch_step = 0
        self._counts.begin_epoch()
        progress.loss = progress.weight = 0.0
        progress.terms = {}
        is_best = evaluated and self._decisions.take(progress, where, counts=counts)
        by_epoch = checkpoint_config.every_epochs and progress.epoch % checkpoint_config.every_epochs == 0
        by_step = checkpoint_config.every_steps and progress.step % checkpoint_config.every_steps == 0
        if by_epoch or by_step or is_best:
            self._save_checkpoint()

    def _train_epoch(self) -> None:
        """Train the steps of the epoch that are left, up to the run's last one or to where it stops."""
        self._take_steps()
        while self._world is not None and self._change is not None:
            self._change_world(self._world, self._change)

    def _change_world(self, world: NextWorld, change: WorldChange) -> None:
        """Take the steps that are left with other processes, or leave them to those. Collective."""
        started, self._change = time.monotonic(), None
        if change.is_rescue:
            counts = self._counts
            done = StepsDone(self.progress, counts.samples, counts.audited, counts.last)
            world.rescue(change, done, partial(counts.add_late, self._fetched))
            counts.begin_after_rescue()
            if change.loses_first:
                self._take_over_checkpoints()
        elif (account := self._go_over(world, change)) is not None:
            self._counts.begin_world(account)
        else:
            self._stopped = self._has_left = True
            return
        self._step_seeder = self._seeder()
        self._changed_at = self.progress.step
        self._watch.change_world(change, time.monotonic() - started)
        self._take_steps()

    def _go_over(self, world: NextWorld, change: WorldChange) -> Account | None:
        meter = self._counts.settle()
        self._watch.end_world()
        state = build_state(self._training, self.progress, self._counts.account, meter)
        resumed = world.go_over(change, {**state, "last_checkpoint": self._last_checkpoint_step})
        return None if resumed is None else resumed.account

    def _take_over_checkpoints(self) -> None:
        """Go on with what the first process has written: where it has not finished one, all save here. Collective."""
        group, last, best = self._session.group, self._last_checkpoint_step, self.progress.ranking.steps
        is_missing = group.rank == 0 and self._writer.take_over(self.progress.step, last, best)
        if any(group.gather_bytes(b"missing" if is_missing else b"")):
            self._last_checkpoint_step = None
            self._save_checkpoint()

    def _take_steps(self) -> None:
        """Take steps to the end of the epoch, to where the run stops, or to where its processes change."""
        progress, session = self.progress, self._session
        self._pace.pause()
        self._watch.begin()
        watches = self._watch.is_needed
        session.model.train()
        batches = session.train_feed.fetch(session.train_work(progress.epoch, progress.epoch_step))
        for fetched in self._watch.profiled(batches):
            if not self._may_start_step():
                return
            self._fetched, result = fetched, self._step(fetched)
            if result is None:
                return
            self._counts.add(fetched, result)
            self._training.ema.update(progress.step)
            if watches:
                self._watch.after_step()
            self._counts.measure(fetched, result)
            if progress.step == self._training.steps:
                break
            if self._times.is_due(progress.step) and self._is_within_epoch:
                self._evaluate_within_epoch()
                if self._is_ending:
                    return
        self._close_training()

    def _step(self, fetched: StepBatch) -> StepResult | None:
        """Take a step; return None where a rank has died in it, and nothing was updated: others take it again."""
        step, stepper = self.progress.step, self._training.stepper
        self._step_seeder.reseed(step)
        self._training.begin_step(step)
        size, samples = self._session.batches.size(self.progress.epoch_step), samples_of(fetched)
        try:
            loss, weight = stepper.run(fetched, size, samples)
        except RuntimeError as error:
            self._change = None if self._world is None else self._world.rescue_after(error)
            if self._change is None:
                raise
            return None
        self._events.forget_held()
        return StepResult(loss, weight, stepper.terms, stepper.norms, stepper.unreached)

    def _close_training(self) -> None:
        """Report what is still to be reported of the steps of an epoch."""
        self._counts.close_norms()
        self._watch.finish_profile()
        self._counts.close_losses()
        if found := self._counts.close_unreached():
            self._events.write("unreached", epoch=self.progress.epoch, step=self.progress.step, **found)
        self._counts.audit()

    def _may_start_step(self) -> bool:
        """Evaluate and write the checkpoint where that is due; say whether the next step may start."""
        step, every = self.progress.step, self._config.checkpoint.every_steps
        if not self._control.may_start(step):
            self._stopped = True
            return False
        if step == self._changed_at:  # all that is due was done before the change
            return True
        if self._times.by_clock and self._control.is_evaluation_due(step) and self.progress.epoch_step:
            self._evaluate_within_epoch()
            if self._is_ending:
                return False
        if (every and step and step % every == 0) or self._control.is_checkpoint_due(step):
            self._save_checkpoint()
        self._change = None if self._world is None else self._world.change_due(step)
        return self._change is None

    def _log_reading(self, reading: Reading) -> None:
        self.progress.loss += reading.loss
        self.progress.weight += reading.weight
        self.progress.add_terms(reading.terms)
        values = {f"train/{name}": value for name, value in {"loss": reading.mean, **reading.means}.items()}
        rates = self._training.learning_rates
        values |= {**self._counts.norms_of(reading), **rates, **self._pace.step(self._samples_done)}
        self._hooks.write_step(reading.step, values)

    def _save_checkpoint(self) -> None:
        """Gather each rank's account and batch norm statistics, a collective, and have the checkpoint written."""
        progress = self.progress
        if self._last_checkpoint_step == progress.step:
            return
        before = self._control.enter("checkpoint")
        self._last_checkpoint_step = progress.step
        self._counts.read_pending()
        self._hooks.at("on_checkpoint")
        if self._verifier is not None:
            self._verifier.verify(progress.step)
        hooks, hook_tensors = self._hooks.state()
        meter = self._counts.settle()
        account, best = self._counts.account, progress.ranking.steps
        state = partial(build_state, self._training, progress, account, meter, hooks)
        save(self._training, progress.step, self._writer, best, state, hook_tensors)
        self._control.enter(before)
