"""Mutants of the product: small mistakes in the parts that carry its promises, each of which some test has to notice.

``tests/project/test_mutants.py`` makes them one at a time in a copy of the repository and runs the tests named here.
A mutant whose line has changed is written anew for the line that does the same work now; it is never just removed.
"""

from __future__ import annotations

from dataclasses import dataclass

_ORDER = ("tests/data/order",)
_STEP = ("tests/training/session/test_train_step.py",)
_METER = ("tests/training/loop",)
_WORLD = ("tests/end_to_end/test_world_size.py",)
_RESUME = ("tests/end_to_end/test_resume.py",)
_STORAGE = ("tests/training/checkpoint/test_storage.py",)
_PLACEMENT = ("tests/training/checkpoint/test_placement.py",)
_RETENTION = ("tests/training/checkpoint", "tests/end_to_end/test_retention.py")
_EMA = ("tests/training/components/test_ema.py",)
_EARLY = ("tests/training/components/test_early_stopping.py",)
_RECORD = ("tests/training/tracking/test_event_log.py",)
_PAGE = ("tests/training/rank/test_control_page.py",)
_FENCE = ("tests/training/rank",)
_LOCK = ("tests/launcher/process", "tests/launcher/runs")
_CAUSE = ("tests/launcher/failures",)
_HANG = ("tests/launcher/hang",)
_END = ("tests/launcher/supervisor",)
_POLICY = ("tests/launcher/job/test_continuation_policy.py",)
_STATUS = ("tests/launcher/runs",)
_LINK = ("tests/launcher/nodes",)
_RANK_END = ("tests/launcher/agent/test_rank_end.py",)
_HOSTS = ("tests/launcher/hosts",)
_STOPS = ("tests/launcher/control",)


@dataclass(frozen=True)
class Mutant:
    """A mistake."""

    file: str
    """Path from the repository's root."""
    old: str
    """A text that is in the file once."""
    new: str
    """The text that takes its place."""
    breaks: str
    """The promise that is no longer kept."""
    tests: tuple[str, ...]
    """Arguments for pytest: of the tests there, at least one has to fail."""
    exhaustive: bool = False
    """Whether only tests that the default selection leaves out notice it."""


MUTANTS = (
    # the order of samples
    Mutant(
        "data/order/sample_order.py", "_ROUNDS = 8", "_ROUNDS = 4", "the order is the documented one", _ORDER
    ),
    Mutant(
        "data/order/sample_order.py",
        "images >= n)\n    while",
        "images > n)\n    while",
        "every index is below n",
        _ORDER,
    ),
    Mutant(
        "data/order/sample_order.py",
        "self._key = (seed, epoch)",
        "self._key = (seed, 0)",
        "every epoch has an order of its own",
        _ORDER,
    ),
    Mutant(
        "data/order/sample_order.py",
        "self._key = (seed, epoch)",
        "self._key = (0, epoch)",
        "every seed has an order of its own",
        _ORDER,
    ),
    Mutant(
        "data/order/sample_order.py",
        "min(self.n, max(stop, start + _CHUNK))",
        "min(self.n, start + _CHUNK)",
        "a span may be longer than a chunk",
        _ORDER,
    ),
    Mutant(
        "data/order/sample_order.py",
        "(number & 0xFFFFFFFF, number >> 32)",
        "(number & 0xFFFFFFFF,)",
        "large seeds differ",
        _ORDER,
    ),
    Mutant(
        "data/order/sample_order.py",
        "size * (rank + 1) // world_size",
        "size * rank // world_size + size // world_size",
        "the ranks' shards are complete",
        _ORDER,
    ),
    Mutant(
        "data/order/sample_order.py",
        "return -(-self.n // self.batch_size)",
        "return self.n // self.batch_size",
        "the last, short batch is trained on",
        _ORDER,
    ),
    Mutant(
        "data/order/sample_order.py",
        "return start, min(start + self.batch_size, self.n)",
        "return start, start + self.batch_size",
        "a batch ends with the epoch",
        _ORDER,
    ),
    Mutant(
        "data/order/sample_order.py",
        "-(-samples // limit)",
        "max(1, samples // limit)",
        "no micro-batch exceeds the limit",
        _ORDER,
    ),
    Mutant(
        "data/order/counter_rng.py",
        "np.uint64(40)).astype",
        "np.uint64(41)).astype",
        "draws fill [0, 1)",
        _ORDER,
    ),
    Mutant(
        "data/order/sample_digest.py", 'step.to_bytes(8, "little") + ', "", "the chain knows the step", _ORDER
    ),
    Mutant(
        "data/order/sample_digest.py",
        "_mix(seed + steps.astype(np.uint64))",
        "_mix(seed + 0 * steps.astype(np.uint64))",
        "a sample in another step is noticed",
        _ORDER,
    ),
    Mutant(
        "data/order/sample_digest.py",
        "np.array([epoch], np.uint64)",
        "np.array([0], np.uint64)",
        "a sample in another epoch is noticed",
        _ORDER,
    ),
    Mutant(
        "data/loading/augment.py",
        "bits((_KEY, self.seed, epoch),",
        "bits((_KEY, self.seed),",
        "augmentation differs from epoch to epoch",
        ("tests/data/loading",),
    ),
    Mutant(
        "data/loading/loader_feed.py",
        "mix(self._seed, epoch, index)",
        "mix(self._seed, index)",
        "a user's random draws differ from epoch to epoch",
        ("tests/data/loading",),
    ),
    # batches and steps
    Mutant(
        "training/session/session.py",
        "start = step * size\n            whole",
        "start = (step - first) * size\n            whole",
        "a resumed epoch continues where it was",
        ("tests/training/session", *_RESUME),
    ),
    Mutant(
        "training/session/session.py",
        "whole[:1], self.dummy_batch_size",
        "whole[:1], 1",
        "a rank without a sample survives batch norm",
        ("tests/training", *_WORLD),
    ),
    Mutant(
        "training/session/train_step.py",
        "self._group.world_size / (size if",
        "1.0 / (size if",
        "the gradient is the mean over the global batch",
        _STEP,
    ),
    Mutant(
        "training/session/train_step.py",
        "(size if weight is None else 1)",
        "(batch_size_of(y) if weight is None else 1)",
        "micro-batches are weighted by their samples",
        _STEP,
    ),
    Mutant(
        "training/session/train_step.py",
        "everyone == 0, 1, everyone",
        "everyone == -1, 1, everyone",
        "a global batch of weight zero is a gradient of zero",
        _STEP,
    ),
    Mutant(
        "training/session/train_step.py",
        "everyone = self._group.sum(weight.to(torch.float64, copy=True))",
        "everyone = weight.to(torch.float64, copy=True)",
        "weights are summed over the ranks",
        (*_STEP, *_WORLD),
    ),
    Mutant(
        "training/session/train_step.py",
        "before is None else before + weight",
        "before is None else weight",
        "weights of micro-batches add up",
        _STEP,
    ),
    Mutant(
        "training/session/train_step.py",
        "scale = 0.0 if zero else",
        "scale = 1.0 if zero else",
        "a stand-in has no gradient",
        (*_STEP, *_WORLD),
    ),
    Mutant(
        "training/session/train_step.py",
        "return summed.detach() * 0, None if weight is None else weight * 0",
        "return summed.detach(), weight",
        "a stand-in has no loss",
        (*_STEP, *_WORLD),
    ),
    Mutant(
        "training/session/train_step.py",
        "            parameter.grad = None\n",
        "            pass\n",
        "no gradient is carried into the next step",
        _STEP,
    ),
    Mutant(
        "training/session/train_step.py",
        "setattr(module, name, buffer.copy_(value))",
        "pass",
        "what is only tried leaves the buffers alone",
        ("tests/training/session",),
    ),
    Mutant(
        "training/session/train_step.py",
        "last=number == len(batch.micro)",
        "last=number == 1",
        "the last micro-batch sends the gradients of all",
        (*_STEP, *_WORLD),
    ),
    Mutant(
        "training/session/step_seeding.py",
        "extend_key(INITIAL_STATE, seed), rank)",
        "extend_key(INITIAL_STATE, seed), 0)",
        "dropout differs between ranks",
        ("tests/training/session",),
    ),
    Mutant(
        "training/session/step_seeding.py",
        "key = extend_key(self._state, step) >> 1",
        "key = self._state >> 1",
        "dropout differs from step to step",
        ("tests/training/session",),
    ),
    Mutant(
        "training/session/sample_audit.py",
        "from_limbs(everyone[:4]) != from_limbs(everyone[4:8])",
        "False",
        "a sample that was not planned ends the run",
        ("tests/training", "tests/data", "tests/end_to_end/test_planted_mistakes.py"),
    ),
    Mutant(
        "training/session/sample_audit.py",
        "if not fetched.work.stand_in]",
        "]",
        "a stand-in is no sample",
        ("tests/training", *_WORLD),
    ),
    # losses and metrics
    Mutant(
        "training/components/loss_contract.py",
        "losses.shape == (samples,)",
        "losses.ndim <= 1",
        "a mean is refused as a loss",
        ("tests/training/components",),
    ),
    Mutant(
        "training/components/metrics.py",
        "target.shape != output.shape[:1]",
        "False",
        "accuracy does not broadcast",
        ("tests/training/components",),
    ),
    Mutant(
        "training/components/losses.py",
        "if output.shape != target.shape:",
        "if False:",
        "mse does not broadcast",
        ("tests/training/components",),
    ),
    Mutant(
        "training/loop/loss_meter.py",
        "return self.loss / self.weight if self.weight else math.nan",
        "return self.loss",
        "the logged loss is a mean",
        _METER,
    ),
    Mutant(
        "training/loop/loss_meter.py",
        "counts[self._group.rank] if same else sum(counts) * (self._group.rank == 0)",
        "counts[self._group.rank] if same else sum(counts)",
        "a loss counts once on another number of ranks",
        (*_METER, *_RESUME),
    ),
    Mutant(
        "training/loop/loss_meter.py",
        "if not math.isfinite(loss):",
        "if False:",
        "a loss that is no number ends the run",
        (*_METER, "tests/end_to_end/test_planted_mistakes.py"),
    ),
    Mutant(
        "training/loop/loss_meter.py",
        "pending.first + int(bad[0])",
        "pending.first",
        "the step of a bad loss is named",
        (*_METER, "tests/end_to_end/test_planted_mistakes.py"),
    ),
    Mutant(
        "training/loop/evaluation.py",
        "if int(values[0]) != session.spec.facts.val.length:",
        "if False:",
        "every validation sample is seen",
        ("tests/training", "tests/end_to_end/test_planted_mistakes.py", "tests/end_to_end/test_bad_input.py"),
    ),
    Mutant(
        "training/loop/evaluation.py",
        "means = [_mean(values[at], values[at + 1])",
        "means = [values[at] / session.group.world_size",
        "evaluation is a mean over samples",
        (*_WORLD,),
    ),
    Mutant(
        "training/loop/evaluation.py",
        "session.model.train(was_training)",
        "pass",
        "training goes on in training mode",
        ("tests/training", *_WORLD, "tests/end_to_end/test_tutorial.py"),
    ),
    Mutant(
        "training/components/batch_norm.py",
        "buffer.copy_(group.sum(buffer.double()) / group.world_size)",
        "buffer.copy_(buffer)",
        "evaluation sees the average of batch norm's statistics",
        ("tests/training/components/test_batchnorm.py",),
    ),
    Mutant(
        "training/components/batch_norm.py",
        "                buffer.copy_(own)",
        "                pass",
        "each rank has its own statistics again",
        ("tests/training/components/test_batchnorm.py",),
    ),
    # the loop
    Mutant(
        "training/loop/train_loop.py",
        "(every and step and step % every == 0)",
        "(every and step and step % every == 1)",
        "checkpoint.every_steps is kept",
        (*_RESUME, "tests/end_to_end/test_retention.py"),
    ),
    Mutant(
        "training/loop/train_loop.py",
        "progress.loss = progress.weight = 0.0",
        "pass",
        "an epoch's loss is that epoch's",
        ("tests/training", *_WORLD, "tests/end_to_end/test_tutorial.py"),
    ),
    Mutant(
        "training/loop/train_loop.py",
        "with self._training.ema.applied():",
        "with batch_norm.averaged(self._session.model, self._session.group):",
        "evaluation uses the average of the weights",
        _EMA,
    ),
    Mutant(
        "training/loop/train_loop.py",
        "self._refuse_non_finite()\n        gathered",
        "gathered",
        "no checkpoint of weights that are no numbers",
        ("tests/end_to_end/test_planted_mistakes.py", "tests/training"),
    ),
    Mutant(
        "training/loop/train_loop.py",
        "self._meter.restore(resumed.meter)",
        "pass",
        "a resumed epoch's loss is whole",
        _RESUME,
    ),
    Mutant(
        "training/loop/train_loop.py",
        "progress.patience.update(early, progress.metrics)",
        "pass",
        "early stopping stops",
        ("tests/training/components", "tests/end_to_end"),
    ),
    Mutant(
        "training/components/lr_schedule.py",
        "math.pi * step / max(1, steps)",
        "math.pi * (step + 1) / max(1, steps)",
        "the first step has the peak learning rate",
        ("tests/training", *_WORLD),
    ),
    Mutant(
        "training/components/lr_schedule.py",
        "low = min(config.min_lr, peak)",
        "low = config.min_lr",
        "a group's rate never exceeds its peak",
        ("tests/training",),
    ),
    # EMA, early stopping, ranking
    Mutant(
        "training/components/ema.py",
        "or step % config.every_steps:",
        ":",
        "train.ema.every_steps is kept",
        _EMA,
    ),
    Mutant(
        "training/components/ema.py", "(1 + updates) / (10 + updates)", "1.0", "the average warms up", _EMA
    ),
    Mutant(
        "training/components/ema.py", "average.copy_(saved[name])", "pass", "the average is resumed", _EMA
    ),
    Mutant(
        "training/components/early_stopping.py",
        'return -value if config.direction == "min" else value',
        "return value",
        "a lower loss is better",
        _EARLY,
    ),
    Mutant(
        "training/components/early_stopping.py",
        "if value is None or not math.isfinite(value):",
        "if value is None:",
        "what is no number is worst",
        _EARLY,
    ),
    Mutant("training/components/early_stopping.py", "+ config.min_delta", "", "min_delta counts", _EARLY),
    Mutant(
        "training/components/early_stopping.py",
        "self.best, self.stalled = value, 0\n",
        "self.best = value\n",
        "an improvement resets the patience",
        _EARLY,
    ),
    Mutant(
        "training/components/early_stopping.py",
        "if self.monitor != config.monitor:",
        "if False:",
        "another monitor begins anew",
        _EARLY,
    ),
    Mutant(
        "training/checkpoint/retention.py",
        '*(e for e in self.entries if e["step"] != step), entry',
        "*self.entries, entry",
        "one evaluation is ranked once",
        _RETENTION,
    ),
    Mutant(
        "training/checkpoint/retention.py",
        "reverse=True)  # stable",
        "reverse=False)  # stable",
        "the best are kept, not the worst",
        _RETENTION,
    ),
    Mutant(
        "training/checkpoint/retention.py",
        "return sorted(set(older) - best)",
        "return sorted(set(older))",
        "the best checkpoints stay",
        _RETENTION,
    ),
    Mutant(
        "training/checkpoint/retention.py",
        "reverse=True)[keep_last:]",
        "reverse=False)[keep_last:]",
        "the newest checkpoints stay",
        _RETENTION,
    ),
    # checkpoints
    Mutant(
        "training/checkpoint/background_writer.py",
        "whole = [step for step in found if step not in self._damaged]",
        "whole = found",
        "damaged checkpoints do not count as those that stay",
        _RETENTION,
    ),
    Mutant(
        "training/checkpoint/background_writer.py",
        "write_checkpoint(self._folder, snapshot, self._fence)",
        "write_checkpoint(self._folder, snapshot)",
        "an attempt that was given up commits nothing",
        (*_STORAGE, *_RETENTION, *_FENCE),
    ),
    Mutant(
        "training/checkpoint/storage.py",
        "            fence()\n",
        "            pass\n",
        "the fence is asked before the commit",
        (*_STORAGE, *_RETENTION, *_FENCE),
    ),
    Mutant(
        "training/checkpoint/storage.py",
        "    for path in [*folder.iterdir(), folder]:\n        sync(path)\n",
        "",
        "a checkpoint's files are on the disk before its name",
        ("tests/training/checkpoint",),
    ),
    Mutant(
        "training/checkpoint/storage.py",
        "    sync(folder)\n    return final",
        "    return final",
        "a checkpoint's name is on the disk",
        ("tests/training/checkpoint",),
    ),
    Mutant(
        "training/checkpoint/storage.py",
        'if there and read_state(final).get("pending") == snapshot.state.get("pending"):',
        "if there:",
        "a checkpoint without its evaluation is replaced",
        (*_STORAGE, *_RESUME),
    ),
    Mutant(
        "training/checkpoint/storage.py",
        "separate[name] = here.clone() if shared else here",
        "separate[name] = here",
        "tied weights can be saved",
        _STORAGE,
    ),
    Mutant(
        "training/checkpoint/storage.py",
        "return {**self.model, **self.ema}",
        "return self.model",
        "evaluation uses the average",
        ("tests/training/checkpoint", *_EMA),
    ),
    Mutant(
        "training/checkpoint/storage.py",
        "        shutil.rmtree(temporary, ignore_errors=True)\n        raise",
        "        raise",
        "nothing is left of a checkpoint that failed",
        _STORAGE,
    ),
    Mutant(
        "training/checkpoint/manifest.py",
        ' and file_sha256(file) == entry["sha256"]',
        "",
        "a flipped bit is noticed",
        _STORAGE,
    ),
    Mutant(
        "training/checkpoint/manifest.py",
        "    manifest = read_manifest(path)\n    refuse_other_step(path, manifest)\n",
        "    manifest = read_manifest(path)\n",
        "a copy under another step's name is refused",
        _PLACEMENT,
    ),
    Mutant(
        "training/checkpoint/placement.py",
        "and state[key] != spec[name]",
        "and False",
        "a checkpoint of another run is refused",
        _PLACEMENT,
    ),
    Mutant(
        "training/checkpoint/placement.py",
        "if key in manifest and manifest[key] != state.get(key):",
        "if False:",
        "a state that is not the manifest's is refused",
        _PLACEMENT,
    ),
    Mutant(
        "training/checkpoint/background_writer.py",
        "if not is_in_place(path)]",
        "if False]",
        "a resumed run keeps no impostor",
        _PLACEMENT,
    ),
    Mutant(
        "training/checkpoint/manifest.py",
        "    if not whole:\n",
        "    if False:\n",
        "a changed manifest is noticed",
        _STORAGE,
    ),
    Mutant(
        "training/checkpoint/manifest.py",
        "if missing := REQUIRED_FILES - set(files):",
        "if missing := set[str]():",
        "a manifest without the weights is no checkpoint",
        _STORAGE,
    ),
    Mutant(
        "training/checkpoint/rank_buffers.py",
        "rows[group.rank]",
        "rows[0]",
        "each rank gets its own buffers back",
        ("tests/training/checkpoint/test_rank_buffers.py",),
    ),
    Mutant(
        "training/checkpoint/rank_buffers.py",
        "if differs or name in always",
        "if differs",
        "batch norm's statistics are always those of every rank",
        ("tests/training/checkpoint/test_rank_buffers.py",),
        exhaustive=True,
    ),
    # resuming
    Mutant(
        "training/checkpoint/state.py",
        '"data_fingerprint": session.spec.facts.fingerprint,\n        "precision"',
        '"data_fingerprint": state["data_fingerprint"],\n        "precision"',
        "a checkpoint of other data is refused",
        ("tests/training/checkpoint", *_RESUME),
    ),
    Mutant(
        "training/checkpoint/state.py",
        "_load_optimizer(training, snapshot.optimizer)",
        "pass",
        "momenta are resumed",
        ("tests/training/checkpoint", *_RESUME),
    ),
    Mutant(
        "training/config/config_identity.py",
        "if not key.startswith((*MUTABLE_KEYS, *EXTENDABLE_KEYS))",
        'if not key.startswith((*MUTABLE_KEYS, *EXTENDABLE_KEYS, "optimizer"))',
        "another learning rate is another run",
        ("tests/training/config", *_RESUME),
    ),
    Mutant(
        "training/tracking/rewinding.py",
        'event.get("step", 0) > step',
        'event.get("step", 0) >= step',
        "the record is cut where the checkpoint was taken",
        (*_RECORD, *_RESUME),
    ),
    Mutant(
        "training/tracking/rewinding.py",
        'and event["epoch"] >= epoch)',
        'and event["epoch"] > epoch)',
        "no epoch has two rows",
        (*_RECORD, *_RESUME),
    ),
    Mutant(
        "training/tracking/rewinding.py",
        "and not anew and",
        "and",
        "what an attempt that lives on writes goes into the old record",
        _RECORD,
    ),
    Mutant(
        "training/tracking/rewinding.py",
        "found[1] < step:",
        "found[1] <= step:",
        "an epoch's row of the checkpoint's own step is cut as well",
        _RECORD,
    ),
    Mutant(
        "training/tracking/event_log.py",
        "type(event[key]) is int if key in event",
        "True if key in event",
        "a line whose step is no number is no event",
        _RECORD,
    ),
    Mutant(
        "training/tracking/event_log.py",
        "        self._fence()\n",
        "",
        "an attempt that was given up logs nothing",
        (*_RECORD, *_FENCE),
    ),
    Mutant(
        "launcher/train/resume.py",
        "if before.fingerprint != now.fingerprint:",
        "if False:",
        "other data is refused",
        _RESUME,
    ),
    # fence and lock
    Mutant(
        "training/rank/fencing_token.py",
        "if owner != self._token:",
        "if owner > self._token:",
        "attempt 10 fences attempt 9",
        _FENCE,
    ),
    Mutant(
        "launcher/process/file_lock.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        "a run has one launcher",
        _LOCK,
    ),
    Mutant(
        "launcher/runs/run_lock.py",
        "return theirs.restart < mine.restart",
        "return theirs.restart <= mine.restart",
        "only an earlier start is given up",
        _LOCK,
    ),
    Mutant(
        "launcher/runs/run_lock.py",
        "            self._last_check = time.monotonic()\n            self._look()",
        "            pass",
        "a launcher notices that its run was taken over",
        _LOCK,
    ),
    Mutant(
        "launcher/runs/run_lock.py",
        "return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)",
        "return True",
        "a lock file that was replaced is noticed",
        _LOCK,
    ),
    Mutant(
        "launcher/process/lock_owner.py",
        "process_start_time(self.pid) == self.start",
        "True",
        "another process with the same number is no owner",
        (*_LOCK,),
    ),
    # the control page
    Mutant(
        "training/rank/control_page.py",
        "if step < words[_HORIZON]:",
        "if step <= words[_HORIZON]:",
        "no rank passes the horizon",
        _PAGE,
    ),
    Mutant(
        "training/rank/control_page.py",
        "if not self._words[_FINAL] and step > self._words[_HORIZON]:",
        "if not self._words[_FINAL]:",
        "the horizon never comes nearer",
        _PAGE,
    ),
    Mutant(
        "training/rank/control_page.py",
        "if not asked or min(self.steps(), default=0) > asked:",
        "if True:",
        "a requested checkpoint is not moved under a slow rank",
        _PAGE,
    ),
    # failures and their causes
    Mutant(
        "launcher/failures/root_cause.py",
        "(-failure.certainty, failure.time_ns)",
        "(failure.time_ns, -failure.certainty)",
        "the cause is named, not the first victim",
        _CAUSE,
    ),
    Mutant(
        "launcher/failures/root_cause.py",
        "(-failure.certainty, failure.time_ns)",
        "(-failure.certainty, -failure.time_ns)",
        "of two failures the first is named",
        _CAUSE,
    ),
    Mutant(
        "launcher/failures/root_cause.py",
        "return 0 if all(aborts) or aborts[-1] else 1",
        "return 1",
        "a victim is no cause",
        _CAUSE,
    ),
    Mutant(
        "launcher/failures/root_cause.py",
        "error.exit_status = cause.status >> 8",
        "error.exit_status = cause.status",
        "a script's status is passed on",
        (*_CAUSE, "tests/end_to_end/test_run.py"),
    ),
    Mutant(
        "launcher/failures/error_patterns.py",
        "return not any(words in text for words in _OWN_FAULTS)",
        "return True",
        "a fault of NCCL's user is no victim's",
        _CAUSE,
    ),
    Mutant(
        "launcher/supervisor/attempt_record.py",
        "elif not said or (status and not self._requires_done):",
        "elif status:",
        "a rank that ends early with status 0 is lost",
        _END,
    ),
    Mutant(
        "launcher/supervisor/attempt_record.py",
        "return len(self._done) == self._count",
        "return bool(self._done)",
        "all ranks have to be done",
        (*_END, "tests/end_to_end/test_processes.py"),
    ),
    # hangs
    Mutant(
        "launcher/hang/verdict.py",
        "rank.silent_seconds < timeout or rank.under_debugger for rank in present",
        "rank.silent_seconds < timeout for rank in present",
        "a debugger is no hang",
        _HANG,
    ),
    Mutant(
        "launcher/hang/verdict.py",
        "least = min(rank.step or 0 for rank in others)",
        "least = max(rank.step or 0 for rank in others)",
        "the rank that is behind is blamed",
        _HANG,
    ),
    Mutant(
        "launcher/hang/verdict.py",
        "return others if len(others) < count else []",
        "return others",
        "without a majority nobody is blamed",
        _HANG,
    ),
    Mutant(
        "launcher/hang/verdict.py",
        "certain=stayed and seconds >= timeout",
        "certain=seconds >= timeout",
        "a rank that moved is no hang yet",
        _HANG,
    ),
    # SLURM: what follows an attempt
    Mutant(
        "launcher/job/continuation_policy.py",
        "if crashes > job.max_crashes:",
        "if crashes >= job.max_crashes:",
        "max_crashes is the number allowed",
        _POLICY,
    ),
    Mutant(
        "launcher/job/continuation_policy.py",
        "if losses > job.max_preemptions:",
        "if losses > job.max_preemptions + 1:",
        "max_preemptions is the number allowed",
        _POLICY,
    ),
    Mutant(
        "launcher/job/continuation_policy.py",
        'if end.cause == "crashed" and not end.gained:',
        "if False:",
        "a crash without a step is not repeated",
        _POLICY,
    ),
    Mutant(
        "launcher/job/continuation_policy.py",
        'if end.cause in ("asked", "cancelled"):',
        'if end.cause == "asked":',
        "a cancelled job does not continue",
        _POLICY,
    ),
    Mutant(
        "launcher/runs/slurm_status.py",
        '_ACTIVE = ("RUNNING", "COMPLETING",',
        '_ACTIVE = ("RUNNING",',
        "a completing job is active",
        _STATUS,
    ),
    Mutant(
        "launcher/slurm/current_job.py",
        '    "RUNNING",\n    "CONFIGURING",\n    "COMPLETING",\n',
        '    "RUNNING",\n    "CONFIGURING",\n',
        "a completing job still has processes",
        ("tests/launcher/slurm", *_STATUS),
    ),
    # requests and records of runs
    Mutant(
        "launcher/runs/stop_requests.py",
        "if waiting is not None and _URGENCY[what] <= _URGENCY[waiting.what]:",
        "if False:",
        "a request to stop is not replaced",
        _STATUS,
    ),
    Mutant(
        "launcher/runs/run_status.py",
        '+ (kind == "epoch"), True',
        ", True",
        "status counts the epochs that are over",
        _STATUS,
    ),
    Mutant(
        "launcher/supervisor/bounded_log.py",
        "    file.truncate(to)\n",
        "",
        "a log that has reached its size gets smaller",
        ("tests/launcher/supervisor/test_bounded_log.py",),
    ),
    Mutant(
        "launcher/supervisor/bounded_log.py",
        "self._left_out += kept - self._first_part - self._note",
        "self._left_out = kept - self._first_part",
        "what is missing of a log is counted",
        ("tests/launcher/supervisor/test_bounded_log.py",),
    ),
    # the link between nodes
    Mutant(
        "launcher/nodes/peer_link.py",
        "self._code(1 - self._end, self._received, text)",
        "self._code(self._end, self._received, text)",
        "a line cannot be sent back to who said it",
        _LINK,
    ),
    Mutant(
        "launcher/nodes/peer_link.py",
        "        self._received += 1\n",
        "",
        "a line cannot be said again",
        _LINK,
    ),
    Mutant(
        "launcher/nodes/peer_link.py",
        "suppress(ValueError, RecursionError)",
        "suppress(ValueError)",
        "a proven line that is no message ends the link, not the launch",
        _LINK,
    ),
    Mutant(
        "launcher/nodes/handshake.py",
        "if number in self._seen:",
        "if False:",
        "an opening that was recorded opens nothing",
        _LINK,
    ),
    Mutant(
        "launcher/nodes/handshake.py",
        "if not hmac.compare_digest(given, _proof(secret, role, *numbers)):",
        "if False:",
        "who does not know the secret is no node",
        _LINK,
    ),
    Mutant(
        "launcher/nodes/acceptor.py",
        "if caller.deadline < now]",
        "if False]",
        "who proves nothing has so many seconds and no more",
        _LINK,
    ),
    Mutant(
        "launcher/nodes/acceptor.py",
        "if len(same) > _UNPROVEN_OF_ADDRESS:",
        "if False:",
        "those of one address do not push out another",
        _LINK,
    ),
    Mutant(
        "launcher/agent/rank_end.py",
        "        gc.collect()\n",
        "        pass\n",
        "garbage ends before the modules do",
        _RANK_END,
    ),
    Mutant(
        "launcher/agent/rank_end.py",
        "            _close_files(gc.get_objects())",
        "            pass",
        "a file that a library holds is flushed",
        _RANK_END,
    ),
    Mutant(
        "launcher/agent/rank_end.py",
        "                self._status = _FLUSH_FAILED\n            show(",
        "                pass\n            show(",
        "stdout that cannot be flushed is status 120",
        _RANK_END,
    ),
    Mutant(
        "launcher/agent/rank_end.py",
        "            if not _flush(sys.stderr):",
        "            if False:",
        "stderr that cannot be flushed is status 120",
        _RANK_END,
    ),
    Mutant(
        "launcher/agent/rank_end.py",
        "    libc.__cxa_atexit(ctypes.cast(libc.fflush, ctypes.c_void_p), None, None)",
        "    libc.__cxa_atexit",
        "what C's stdio holds is written",
        _RANK_END,
    ),
    Mutant(
        "launcher/agent/rank_end.py",
        "ctypes.PyDLL(None).exit(status)",
        "os._exit(status)",
        "functions that a library has registered are called",
        _RANK_END,
    ),
    Mutant(
        "launcher/agent/rank_end.py",
        "        self._left = [weakref.ref(module) for module in modules if isinstance(module, ModuleType)]\n",
        "",
        "a module that a library keeps is taken apart",
        _RANK_END,
    ),
    Mutant(
        "launcher/agent/rank_end.py",
        '            delattr(sys.modules["builtins"], name)',
        "            pass",
        "what builtins hold ends",
        _RANK_END,
    ),
    Mutant(
        "launcher/agent/rank_end.py",
        "            os.kill(os.getpid(), -status)",
        "            pass",
        "an interrupted rank dies of its signal",
        _RANK_END,
    ),
    Mutant(
        "launcher/agent/rank_end.py",
        "        return modules[::-1]\n",
        "        modules.clear()\n        return modules\n",
        "a ResourceWarning names no frame of ours",
        _RANK_END,
    ),
    Mutant(
        "launcher/agent/rank_end.py",
        "        gc.freeze()\n",
        "",
        "collections leave shared pages alone",
        _RANK_END,
    ),
    Mutant(
        "launcher/nodes/rendezvous.py",
        "_word_in(find())",
        'str(document.get("word", ""))',
        "a node that comes early sees the shared folder all the same",
        _LINK,
    ),
    Mutant(
        "launcher/hosts/host_checks.py",
        'return "" if said == word else',
        'return "" if said else',
        "a stranger at node 0's address is not node 0",
        _HOSTS,
    ),
    Mutant(
        "launcher/hosts/host_list.py",
        'return self.user in ("", _user()) and',
        "return",
        "another user's login is not this one",
        _HOSTS,
    ),
    Mutant(
        "launcher/hosts/carried_environment.py",
        "(RUN_MARK|AGENT|KEY|SSH|MEETING)",
        "(AGENT|KEY|SSH|MEETING)",
        "a launch's mark is not another launch's",
        _HOSTS,
    ),
    # stops, and the limit that a run learns
    Mutant(
        "launcher/control/horizon_control.py",
        "if self.steps <= self._first_step:",
        "if False:",
        "before the first step there is nothing to save",
        _STOPS,
    ),
    Mutant(
        "launcher/control/horizon_control.py",
        "self._first_step = first_step\n        self._times = ProgressTimes()\n\n    @property",
        "self._times = ProgressTimes()\n\n    @property",
        "a restarted run says where it stands",
        _STOPS,
    ),
    Mutant(
        "launcher/control/horizon_control.py",
        "self.interruption = LateStopError(number, by, self._clock.seconds)",
        "pass",
        "a stop has a bound",
        _STOPS,
    ),
    Mutant(
        "launcher/control/stop_clock.py",
        "if saving and self._may_save_longer:",
        "if self._may_save_longer:",
        "only a checkpoint that was never measured gets longer",
        _STOPS,
    ),
    Mutant(
        "data/common/early_signals.py",
        "if signal.getsignal(number) != signal.SIG_IGN",
        "if True",
        "a signal that was inherited as ignored stays ignored",
        ("tests/data/common",),
    ),
    Mutant(
        "launcher/hang/progress_times.py",
        'is_first = kind != "step" and rank.phase not in rank.left',
        "is_first = False",
        "a first evaluation keeps the fixed limit",
        _HANG,
    ),
    Mutant(
        "launcher/hang/progress_times.py",
        "            if self._is_early(known):\n                return\n",
        "",
        "what a first step takes to compile is not the pace",
        _HANG,
    ),
    Mutant(
        "launcher/hang/verdict.py",
        "rank.asleep and not rank.held and rank",
        "rank.asleep and rank",
        "a disk is no hang by the run's own pace",
        _HANG,
    ),
    Mutant(
        "launcher/hang/verdict.py",
        "in_user_code and rank.asleep and",
        "rank.asleep and",
        "who waits for a thread of a library may go on",
        _HANG,
    ),
)
