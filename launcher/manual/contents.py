"""What the help consists of besides the commands themselves: their groups, in order, and an example for each."""

from __future__ import annotations

GROUPS: dict[str, tuple[str, ...]] = {
    "Train": ("train", "resume", "sweep", "run", "check", "scale"),
    "Look": ("status", "logs", "plot", "report", "compare", "show", "replay"),
    "Use what was trained": ("eval", "predict", "export"),
    "Stop and clear": ("stop", "checkpoint", "cancel", "rm", "cache"),
    "Cluster": ("submit", "slurm-sandbox"),
    "This machine and this project": ("init", "doctor", "config", "schema", "help", "completion"),
}
"""The commands of each group; one that is in none is listed last, under "More"."""

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (
        ("launch train", "on every GPU, else on one CPU process"),
        ("launch train exp.yaml --gpus 4 --name first optimizer.lr=0.01", ""),
        ("launch train exp.yaml --dry-run", "the plan, and nothing else"),
    ),
    "resume": (
        ("launch resume", "the newest training"),
        ("launch resume first --cpu 3 train.epochs=10", "on 3 processes, and longer"),
    ),
    "scale": (("launch scale first 3", "`train.elastic` allows it"),),
    "sweep": (("launch sweep exp.yaml optimizer.lr=0.1,0.01 train.seed=0..4", "ten runs"),),
    "run": (("launch run --gpus 4 train.py --epochs 3", "all after train.py is the script's"),),
    "check": (("launch check exp.yaml", ""),),
    "status": (("launch status", "all runs"), ("launch status first --watch", "")),
    "logs": (("launch logs -f", "of the run that is running"), ("launch logs first --rank 2", "")),
    "plot": (("launch plot first second", ""),),
    "report": (("launch report first", ""),),
    "compare": (("launch compare", "the two newest trainings"), ("launch compare first second", "")),
    "show": (("launch show exp.yaml --out pictures/samples.png", ""),),
    "replay": (("launch replay first --step 120 --rank 1", ""),),
    "eval": (
        ("launch eval first --checkpoint best --split test", ""),
        ("launch eval mine --data ./more.py:data", "on what a function returns"),
    ),
    "predict": (
        ("launch predict first photos/ --out classes.csv", ""),
        ("launch predict first --split val --format jsonl", ""),
    ),
    "export": (("launch export first --format onnx", ""),),
    "stop": (("launch stop first", "`launch resume first` continues it"),),
    "checkpoint": (("launch checkpoint first", ""),),
    "cancel": (("launch cancel first", ""),),
    "rm": (("launch rm first second", "it asks first"),),
    "cache": (("launch cache", "what is there"), ("launch cache --remove", "all that is not in use")),
    "submit": (
        ("launch submit exp.yaml --nodes 2 --gpus 4 --time 4:00:00", ""),
        ("launch submit --gpus 4 --time 2h train.py --epochs 3", "a script"),
    ),
    "slurm-sandbox up": (("sudo launch slurm-sandbox up", ""),),
    "slurm-sandbox down": (("sudo launch slurm-sandbox down", ""),),
    "slurm-sandbox status": (("launch slurm-sandbox status", ""),),
    "init": (("launch init rings && cd rings && launch train config.yaml", ""),),
    "doctor": (
        ("launch doctor", "everything, in about ten seconds"),
        ("launch doctor --json", "for programs"),
    ),
    "config show": (("launch config show exp.yaml optimizer.lr=0.01", ""),),
    "config why": (("launch config why optimizer.lr exp.yaml", ""),),
    "config schema": (("launch config schema > lockstep.schema.json", ""),),
    "config reference": (("launch config reference > configuration.md", ""),),
    "schema": (
        ("launch schema status", "of `launch status --json`"),
        ("launch schema", "which there are"),
        ("launch schema --agents", "what a script should know"),
    ),
    "help": (("launch help train", ""), ("launch help config why", "")),
    "completion": (
        ('eval "$(launch completion bash)"', "in this shell"),
        ("launch completion --install", "in every shell from now on"),
    ),
}
"""Command lines to copy for each command, each with a comment or none."""
