"""Train and evaluate, epoch by epoch, every rank in step with the others."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...data.bad_samples import BadSamplesNews
from ...data.common import STOPPED
from ...data.loading import StepBatch
from ..checkpoint import (
    CheckpointWriter,
    Progress,
    ResumedState,
    build_state,
    checkpoint_tensors,
    rank_buffers,
    training_hashes,
    writing_ranks,
)
from ..components import batch_norm
from ..rank import FencingToken, RankControl
from ..session import Account, SampleAudit, StepSeeder, Training
from ..tracking import EventLog
from ..verification import Verifier
from .decisions import Decisions
from .evaluation import Views, evaluate
from .evaluation_times import EvaluationTimes
from .kept_views import keep_views
from .loss_meter import LossMeter, Reading
from .non_finite import refuse_non_finite
from .norm_meter import NormMeter
from .pace import Pace
from .profiler import Profiler
from .run_hooks import build_hooks, tell_of_evaluation
from .run_result import run_result, start_facts
from .stragglers import Stragglers
from .unreached import UnreachedParameters


class TrainLoop:
    """Runs a training to its end, or to where it is told to stop.

    Args:
        training: what was built.
        folder: the run folder.
        events: rank 0's record.
        resumed: what a checkpoint brought, whose tensors are in place already.
        fence: checked before a checkpoint is committed.
        control: says how far this rank may go.
    """

    def __init__(
        self,
        training: Training,
        folder: Path,
        events: EventLog,
        resumed: ResumedState | None = None,
        fence: FencingToken | None = None,
        control: RankControl | None = None,
    ) -> None:
        session = self._session = training.session
        self._training = training
        self._config = session.spec.config.with_directions()
        self._events = events
        self._resumed = resumed
        self._control = control or RankControl(None, 0)
        self._step_seeder = StepSeeder(self._config.train.seed, session.group.rank, session.group.device)
        account = resumed.account if resumed else Account()
        self._sample_audit = SampleAudit(
            account, session.order, session.batches, self._config.train.seed, session.group
        )
        self.progress = resumed.progress if resumed else Progress()
        self._audited_step = self.progress.epoch_step
        self._last_checkpoint_step = self.progress.step if resumed and not self.progress.pending else None
        self._stopped = False
        self._decisions = Decisions(self._config, training, events)
        self._times = EvaluationTimes(self._config.train.eval_every, session.batches.steps)
        self._evaluation_seconds = 0.0  # within the epoch
        self._meter = LossMeter(session.group, self._config.log.every_steps, training.terms)
        stepper = training.stepper
        self._norms = NormMeter(self._config.log.every_steps, stepper.norm_names, skips=stepper.skips)
        self._unreached = UnreachedParameters(self._config.train.unused, training.names)
        self._pace = Pace(training)
        self._hooks = build_hooks(session, events, folder, self.progress)
        self._hook_notes = self._hooks.restore(resumed.hooks, resumed.hook_tensors) if resumed else []
        self._stragglers = Stragglers.for_ranks(session.group, training.stepper)
        self._fence = fence or FencingToken(folder, None)
        keep = self._config.checkpoint.keep_last
        ranks = writing_ranks(training)
        self._writer = CheckpointWriter(folder / "checkpoints", events, self._fence.check, keep, ranks)
        step = self.progress.step
        self._verifier = Verifier.of_run(training, events, step, self._control.touch, self._writer.newest)
        watching = (self._stragglers, training.compilation, self._verifier)
        self._watches = self._hooks.on_step or any(one is not None for one in watching)
        asked = self._config.log.profile
        self._profiler = Profiler(asked, step, session.group, stepper, folder) if asked else None
        if resumed:
            self._meter.restore(resumed.meter)
            self._norms.restore(resumed.meter, session.group.device)
        self._folder, self._bad = folder, BadSamplesNews(folder)

    def run(self) -> dict[str, Any]:
        """Train to the end; return the result's values as ``launch train --json`` prints them."""
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
        if self._is_stopped_early():
            self._decisions.tell_early_stop(self.progress)
        self._save_checkpoint()
        self._writer.finish()
        if not self._stopped:
            self._hooks.at("on_end")
        training, account = self._training, self._sample_audit.account
        with batch_norm.averaged(self._session.model, self._session.buffer_group):
            hashes = training_hashes(training)
        result = run_result(hashes, self.progress, account, time.monotonic() - started)
        stopped = {"status": "stopped", "exit_code": STOPPED} if self._stopped else {}
        return {**stopped, "stopped_early": self._is_stopped_early(), **result}

    def _begin_run(self) -> None:
        self._decisions.refuse_settings(supervised=self._control.supervised)
        notes = [*self._training.notes, *(self._resumed.notes if self._resumed else []), *self._hook_notes]
        if self._session.group.rank == 0:
            notes += self._writer.open(self.progress.step if self._resumed else -1)
        self._control.begin(self.progress.step)
        self._control.enter("training")
        self._events.write("start", **start_facts(self._training), step=self.progress.step, notes=notes)

    def _is_over(self) -> bool:
        progress = self.progress
        trained = progress.step >= self._training.steps and not progress.pending
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
        progress.metrics = self._train_metrics()
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

    def _train_metrics(self) -> dict[str, float]:
        terms = {f"train/{name}": value for name, value in self.progress.mean_terms.items()}
        return {"train/loss": self.progress.mean_loss, **terms}

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
        if reading := self._meter.read_pending():
            self._log_reading(reading)
        progress.metrics = self._meter.sums_so_far(progress.loss, progress.weight, progress.terms)
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
        if self._stragglers is not None:
            self._stragglers.begin()

    def _tell_evaluation(self, **more: float) -> None:
        progress = self.progress
        values = {**progress.metrics, **more}
        self._events.write("evaluation", epoch=progress.epoch, step=progress.step, **values)

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
        progress.epoch_step = self._audited_step = 0
        progress.loss = progress.weight = 0.0
        progress.terms = {}
        is_best = evaluated and self._decisions.take(progress, where, counts=counts)
        by_epoch = checkpoint_config.every_epochs and progress.epoch % checkpoint_config.every_epochs == 0
        by_step = checkpoint_config.every_steps and progress.step % checkpoint_config.every_steps == 0
        if by_epoch or by_step or is_best:
            self._save_checkpoint()

    def _watch_step(self) -> None:
        """Call the hook of a step; tell of what was compiled in it, and of a rank that the others wait for."""
        self._hooks.call("on_step")
        if self._verifier is not None:
            self._verifier.add(self.progress.step)
        if self._stragglers is not None and (late := self._stragglers.add()):
            self._events.write("straggler", step=self.progress.step, **late)
        if self._training.compilation is not None and (message := self._training.compilation.news()):
            self._events.write("note", step=self.progress.step, message=message)

    def _train_epoch(self) -> None:
        """Train the steps of the epoch that are left, up to the run's last one or to where it stops."""
        progress, session, meter = self.progress, self._session, self._meter
        self._pace.pause()
        if self._stragglers is not None:
            self._stragglers.begin()
        session.model.train()
        batches = session.train_feed.fetch(session.train_work(progress.epoch, progress.epoch_step))
        for fetched in self._profiled(batches):
            if not self._may_start_step():
                return
            size = session.batches.size(progress.epoch_step)
            samples = 0 if fetched.work.stand_in else fetched.indices.size
            self._step_seeder.reseed(progress.step)
            self._training.begin_step(progress.step)
            loss, weight = self._training.stepper.run(fetched, size, samples)
            self._unreached.count(progress.step, self._training.stepper.unreached)
            self._sample_audit.record(progress.epoch_step, progress.step, fetched)
            progress.step += 1
            progress.epoch_step += 1
            self._training.ema.update(progress.step)
            self._norms.add(progress.step, self._training.stepper.norms)
            if self._watches:
                self._watch_step()
            if reading := meter.add(progress.step, loss, weight, samples, self._training.stepper.terms):
                self._log_reading(reading)
            if progress.step == self._training.steps:
                break
            if self._times.is_due(progress.step) and self._is_within_epoch:
                self._evaluate_within_epoch()
                if self._is_ending:
                    return
        self._close_training()

    def _close_training(self) -> None:
        """Tell what is still to be told of the steps of an epoch."""
        progress = self.progress
        self._norms.close(progress.step)
        if self._profiler is not None:
            self._profiler.finish(progress.step, self._tell_profile)
        for reading in self._meter.close(progress.step):
            self._log_reading(reading)
        if found := self._unreached.close_epoch():
            self._events.write("unreached", epoch=progress.epoch, step=progress.step, **found)
        self._audit_samples()

    def _profiled(self, batches: Iterator[StepBatch]) -> Iterator[StepBatch]:
        """Pass on batches, with some steps profiled where that is asked for."""
        if self._profiler is None:
            return batches
        return self._profiler.steps(batches, lambda: self.progress.step, self._tell_profile)

    def _tell_profile(self, table: dict[str, Any]) -> None:
        self._events.write("profile", step=self.progress.step, **table)

    def _may_start_step(self) -> bool:
        """Evaluate and write the checkpoint where that is due; say whether the next step may start."""
        step, every = self.progress.step, self._config.checkpoint.every_steps
        if not self._control.may_start(step):
            self._stopped = True
            return False
        if self._times.by_clock and self._control.is_evaluation_due(step) and self.progress.epoch_step:
            self._evaluate_within_epoch()
            if self._is_ending:
                return False
        if (every and step and step % every == 0) or self._control.is_checkpoint_due(step):
            self._save_checkpoint()
        return True

    def _log_reading(self, reading: Reading) -> None:
        self.progress.loss += reading.loss
        self.progress.weight += reading.weight
        self.progress.add_terms(reading.terms)
        values = {f"train/{name}": value for name, value in {"loss": reading.mean, **reading.means}.items()}
        rates = self._training.learning_rates
        values |= {**self._norms.take(reading.step), **rates, **self._pace.step(self._samples_done)}
        self._hooks.write_step(reading.step, values)

    def _audit_samples(self) -> None:
        if self.progress.epoch_step > self._audited_step:
            self._sample_audit.settle(self.progress.epoch, self._audited_step, self.progress.epoch_step)
            self._audited_step = self.progress.epoch_step

    def _save_checkpoint(self) -> None:
        """Gather each rank's account and batch norm statistics, a collective, and have the checkpoint written."""
        progress, session = self.progress, self._session
        if self._last_checkpoint_step == progress.step:
            return
        before = self._control.enter("checkpoint")
        self._last_checkpoint_step = progress.step
        if reading := self._meter.read_pending():
            self._log_reading(reading)
        self._hooks.at("on_checkpoint")
        if self._verifier is not None:
            self._verifier.verify(progress.step)
        hooks, hook_tensors = self._hooks.state()
        self._audit_samples()
        meter = {**self._meter.state(progress.step), **self._norms.state(progress.step)}
        refuse_non_finite(session, progress.step)
        gathered_buffers = rank_buffers.gathered(session.model, session.buffer_group)
        with batch_norm.averaged(session.model, session.buffer_group):
            snapshot = checkpoint_tensors(self._training, progress.step, sharded=self._writer.is_shared)
            if session.group.rank == 0:
                state = build_state(self._training, progress, self._sample_audit.account, meter) | hooks
                snapshot = replace(snapshot, state=state, rank_buffers=gathered_buffers, hooks=hook_tensors)
            if session.group.rank == 0 or self._writer.is_shared:
                self._writer.write(snapshot, progress.ranking.steps)
        self._control.enter(before)
