"""The names that other tools have for settings: what they are here, or why there is no such setting."""

from __future__ import annotations

_SETTINGS = {
    "train": "training trainer",
    "train.seed": "random_seed manual_seed rng_seed",
    "train.epochs": "num_epochs max_epochs n_epochs num_train_epochs epoch nb_epochs",
    "train.steps": "num_steps n_steps total_steps max_iters max_iter iterations num_iterations iters "
    "num_train_steps max_train_steps training_steps",
    "train.precision": "dtype amp mixed_precision fp16 bf16 fp32 fp64 half use_amp autocast",
    "train.eval_every": "val_every check_val_every_n_epoch val_interval eval_steps val_check_interval "
    "evaluation_strategy eval_strategy eval_interval eval_freq validate_every",
    "train.eval_batches": "limit_val_batches eval_iters max_eval_batches max_eval_steps val_batches",
    "train.early_stop": "early_stopping earlystopping",
    "train.early_stop.patience": "patience",
    "train.ema.decay": "ema_decay ema_rate",
    "train.compile": "compile torch_compile compile_model jit",
    "train.strategy": "strategy fsdp fsdp2 zero sharded sharding_strategy fully_shard distributed_strategy",
    "train.unused": "find_unused_parameters find_unused ddp_find_unused_parameters unused_parameters",
    "data": "dataset datasets dataloader",
    "data.batch_size": "bs batch batchsize train_batch_size global_batch_size per_device_train_batch_size micro_batch",
    "data.max_micro_batch": "accumulate_grad_batches gradient_accumulation_steps grad_accum accumulation_steps "
    "grad_accumulation accum_steps gradient_accumulation micro_batch_size auto_find_batch_size auto_scale_batch_size",
    "data.workers": "num_workers n_workers dataloader_num_workers",
    "data.val_size": "val_split validation_split val_fraction valid_size validation_size val_ratio",
    "data.augment": "transform transforms augmentation augmentations augs mixup cutmix mixup_alpha cutmix_alpha",
    "optimizer": "optim optimiser",
    "optimizer.lr": "learning_rate base_lr initial_lr max_lr init_lr",
    "optimizer.weight_decay": "wd decay l2 l2_reg weightdecay",
    "optimizer.betas": "beta beta1 beta2",
    "optimizer.clip_norm": "clip_grad grad_clip clip max_grad_norm gradient_clip_val gradient_clipping "
    "clip_grad_norm grad_clip_norm max_norm",
    "optimizer.clip_value": "clip_grad_value grad_clip_value",
    "optimizer.layer_decay": "layerwise_decay layer_lr_decay llrd lr_layer_decay",
    "optimizer.groups": "param_groups parameter_groups no_decay freeze frozen",
    "schedule": "scheduler lr_scheduler lr_schedule sched",
    "schedule.min_lr": "eta_min lr_min final_lr end_lr lr_end",
    "schedule.warmup": "warmup_steps warmup_epochs warmup_ratio num_warmup_steps warm_up warmup_iters "
    "warmup_proportion",
    "schedule.warmup_factor": "start_factor warmup_start_factor warmup_start",
    "schedule.factor": "gamma decay_rate lr_gamma lr_decay_rate",
    "schedule.every": "step_size lr_step_size decay_every",
    "schedule.at": "milestones lr_steps decay_epochs",
    "schedule.rise": "pct_start",
    "schedule.anneal": "anneal_strategy",
    "loss.use": "criterion loss_fn loss_function objective",
    "step": "training_step train_step",
    "data.fold": "folds kfold k_fold n_splits cross_validation cv",
    "data.group": "groups group_column group_by",
    "data.stratify": "stratified",
    "data.sets": "mixture mix concat concatenate interleave",
    "data.weights": "sample_weights sample_weight weighted_sampler sampling_weights",
    "data.balance": "class_balanced balanced balanced_sampler oversample",
    "data.epoch_size": "samples_per_epoch num_samples epoch_samples",
    "data.collate": "collate_fn collator data_collator",
    "data.pack": "packing sample_packing pack_sequences",
    "data.pack.length": "block_size seq_length seq_len sequence_length context_length max_seq_length",
    "data.target": "label_names label_key target_key label_column",
    "metrics": "metric",
    "model": "network net arch architecture backbone",
    "model.args.dropout": "dropout drop_rate dropout_rate",
    "loss.args.label_smoothing": "label_smoothing smoothing",
    "model.checkpointing": "gradient_checkpointing activation_checkpointing grad_checkpointing",
    "model.sync_batch_norm": "sync_batchnorm sync_bn syncbn convert_sync_batchnorm",
    "model.channels_last": "memory_format",
    "log.profile": "profiler profile_steps",
    "model.weights": "pretrained checkpoint ckpt init_from pretrained_path weights_path",
    "checkpoint.every_steps": "save_steps save_every_n_steps every_n_steps checkpoint_steps",
    "checkpoint.every_epochs": "save_every save_freq save_interval checkpoint_every every every_n_epochs save_epochs "
    "checkpoint_interval save_strategy",
    "checkpoint.keep_best": "save_top_k top_k save_best save_best_only best load_best_model_at_end",
    "checkpoint.keep_last": "save_total_limit keep max_to_keep save_last",
    "checkpoint.monitor": "metric metric_for_best_model",
    "log.every_steps": "log_every log_interval logging_steps log_every_n_steps print_freq interval every print_every",
    "tracking": "logger loggers report_to log_with trackers tracker",
    "hooks": "callbacks callback hook",
    "wandb.project": "wandb_project project_name",
    "wandb.name": "run_name",
    "wandb.group": "run_group",
    "slurm.time": "hours walltime time_limit",
}
"""Key to its other names. A name that several keys have is the one in the section where it was written."""

_NO_RESTARTS = (
    "a schedule has the length of the run, and one with restarts is a function of yours: schedule.use"
)
_ACCUMULATION = "a batch is that of an optimizer step; data.max_micro_batch splits it"
_PROCESSES = "processes are not a setting of a run: --gpus, --cpu and --nodes choose them"
_FOLDERS = "runs are kept in $LOCKSTEP_RUNS or ./runs, and --name names one"
_NAME = "--name names the run"
_EVALUATION = (
    "every epoch ends with an evaluation of the `val` that data.use returns, unless train.eval_every says when;"
    " `launch eval --split test` takes a test set"
)
_LOADING = "there is no such choice: data.workers is all that a loader needs"
_ABSENT = {
    _NO_RESTARTS: "t_max t_0 t_mult restarts num_cycles total_iters cycle_momentum",
    _PROCESSES: "device devices gpus gpu num_gpus n_gpus n_gpu ngpu accelerator world_size nproc num_processes ddp "
    "cpu distributed nproc_per_node num_nodes backend parallel",
    _FOLDERS: "out output_dir save_dir log_dir out_dir run_dir work_dir logdir outdir output_path default_root_dir",
    _NAME: "name experiment exp_name experiment_name run exp",
    _EVALUATION: "val valid validation evaluation eval test",
    _LOADING: "pin_memory prefetch_factor persistent_workers prefetch multiprocessing_context",
    "training samples are shuffled by train.seed, unless data.weights, data.balance or data.sets say how often one"
    " comes; validation samples are not": "shuffle sampler shuffle_seed",
    "no sample is dropped: the last, shorter batch counts by its size": "drop_last",
    "`launch resume RUN` continues a run": "resume resume_from resume_from_checkpoint ckpt_path load_from resume_path",
    "there is DDP, and train.strategy=fsdp: no layer is split over processes": "deepspeed tensor_parallel pipeline",
}
"""Sentence to names that no setting here has."""

SETTINGS: dict[str, list[str]] = {}
"""Name to the keys that it may mean."""
for _key, _names in _SETTINGS.items():
    for _name in _names.split():
        SETTINGS.setdefault(_name, []).append(_key)
ADVICE = {name: sentence for sentence, names in _ABSENT.items() for name in names.split()}
"""Name to its explanation."""
