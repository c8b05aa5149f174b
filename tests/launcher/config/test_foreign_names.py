"""Names that other tools have: what they are here, or that there is no such setting; never a name that is only near."""

from __future__ import annotations

import pytest

from lockstep.launcher.config.foreign_names import ADVICE, SETTINGS
from lockstep.launcher.config.launch_config import LaunchConfig
from lockstep.launcher.config.unknown_keys import _section, unknown_key

ARGUMENTS = "the arguments of what {0}.use names are in {0}.args"
SAID = {
    "train.clip_grad": '; did you mean "optimizer.clip_norm"?',
    "optimizer.max_grad_norm": '; did you mean "optimizer.clip_norm"?',
    "train.clip": '; did you mean "optimizer.clip_norm"?',
    "schedule.warmup_ratio": '; did you mean "schedule.warmup"?',
    "optimizer.warmup_steps": '; did you mean "schedule.warmup"?',
    "schedule.gamma": '; did you mean "schedule.factor"?',
    "schedule.milestones": '; did you mean "schedule.at"?',
    "schedule.T_max": ": a schedule has the length of the run",
    "train.max_iters": '; did you mean "train.steps"?',
    "train.torch_compile": '; did you mean "train.compile"?',
    "train.device": ": processes are not a setting of a run",
    "gpus": ": processes are not a setting of a run",
    "train.shuffle": ": training samples are shuffled by train.seed",
    "data.drop_last": ": no sample is dropped",
    "train.resume": ": `launch resume RUN`",
    "output_dir": ": runs are kept in",
    "name": ": --name names the run",
    "train.val_every": '; did you mean "train.eval_every"?',
    "train.limit_val_batches": '; did you mean "train.eval_batches"?',
    "train.validation": ": every epoch ends with an evaluation",
    "train.fsdp": '; did you mean "train.strategy"?',
    "train.deepspeed": ": there is DDP, and train.strategy=fsdp",
    "train.accumulate_grad_batches": '; did you mean "data.max_micro_batch"?',
    "train.fp16": '; did you mean "train.precision"?',
    "train.patience": '; did you mean "train.early_stop.patience"?',
    "train.find_unused_parameters": '; did you mean "train.unused"?',
    "train.scheduler": '; did you mean "schedule"?',
    "train.dropout": '; did you mean "model.args.dropout"?',
    "train.label_smoothing": '; did you mean "loss.args.label_smoothing"?',
    "train.save_every": '; did you mean "checkpoint.every_epochs"?',
    "train.log_every": '; did you mean "log.every_steps"?',
    "data.transforms": '; did you mean "data.augment"?',
    "data.val_split": '; did you mean "data.val_size"?',
    "data.batch": '; did you mean "data.batch_size"?',
    "model.pretrained": '; did you mean "model.weights"?',
    "checkpoint.save_top_k": '; did you mean "checkpoint.keep_best"?',
    "checkpoint.metric": '; did you mean "checkpoint.monitor"?',
    "checkpoint.every": '; did you mean "checkpoint.every_epochs"?',
    "log.every": '; did you mean "log.every_steps"?',
    "metric": '; did you mean "metrics"?',
    "criterion": '; did you mean "loss.use"?',
    "logger": '; did you mean "tracking"?',
    "optimizer.wd": '; did you mean "optimizer.weight_decay"?',
    "slurm.hours": '; did you mean "slurm.time"?',
    "model.num_classes": "; " + ARGUMENTS.format("model"),
    "loss.weight": "; " + ARGUMENTS.format("loss"),
    "data.std": "; " + ARGUMENTS.format("data"),
    "data.train": "; " + ARGUMENTS.format("data"),
    "train.unusd": '; did you mean "train.unused"?',
    "checkpoint.keepbest": '; did you mean "checkpoint.keep_best"?',
    "train.ema.decya": '; did you mean "train.ema.decay"?',
    "optimizer.lookahead": "; optimizer has use, lr, ",
    "checkpoint.dir": "; checkpoint has ",
    "log.level": "; log has ",
    "train.gradual": "; train has epochs, ",
}


@pytest.mark.parametrize("key", SAID)
def test_what_is_said_of_a_key_that_there_is_not(key: str) -> None:
    said = unknown_key(LaunchConfig, tuple(key.split(".")))
    assert said.startswith(f'unknown key "{key}"{SAID[key]}'), said


def _is_key(key: str) -> bool:
    outer, _, last = key.rpartition(".")
    section = _section(LaunchConfig, tuple(outer.split(".") if outer else ()))
    return outer.endswith(".args") or (section is not None and last in section.model_fields)


def test_what_is_suggested_is_there_and_what_is_not_is_never_both() -> None:
    assert not [key for keys in SETTINGS.values() for key in keys if not _is_key(key)]
    assert not SETTINGS.keys() & ADVICE.keys()
