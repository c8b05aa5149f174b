"""The options of a job on the command line, written by ``python -m tests.helpers.slurm.option_table``.

They are declared in ``slurm/options.py``, with pydantic, whose import takes as long as all that the help needs.
"""

from __future__ import annotations

from typing import Any

JOB_OPTIONS: tuple[tuple[str, Any, str, str, str], ...] = (
    ("nodes", int, "nodes", "N", "Number of nodes."),
    ("gpus", str, "gpus", "[KIND:]N", "GPUs per node, with one process on each."),
    ("cpu", int, "cpu", "N", "CPU processes per node, instead of GPUs."),
    ("time", str, "time", "TIME", "Time limit: 4:00:00, 90min, 2h, 1-12:00:00."),
    ("partition", str, "partition", "NAMES", "Partitions, separated by commas."),
    ("account", str, "account", "NAME", "Account to charge."),
    ("qos", str, "qos", "NAME", "Quality of service."),
    ("cpus_per_task", int, "cpus-per-task", "N", "CPUs per node; by default the GPUs' share."),
    ("mem", str, "mem", "SIZE", "Memory per node: 64G; 0 for all of it."),
    ("constraint", str, "constraint", "FEATURES", "Features that the nodes must have."),
    ("gres", str, "gres", "LIST", "Other generic resources per node."),
    ("exclude", str, "exclude", "HOSTS", "Nodes to avoid: node[3,7-9]."),
    ("reservation", str, "reservation", "NAMES", "Reservations to use, separated by commas."),
    ("mail_user", str, "mail-user", "ADDRESS", "Where SLURM sends mail."),
    ("mail_type", str, "mail-type", "TYPES", "Events to send mail about: END,FAIL."),
    ("container", str, "container", "IMAGE", "Container image to run the processes in."),
    ("container_mounts", list[str], "container-mount", "/SRC:/DST", "Folder to mount in the image; repeatable."),
    ("container_runtime", str, "container-runtime", "pyxis|apptainer", "By default apptainer for a .sif, else pyxis."),
    ("modules", list[str], "module", "NAME", "Environment module to load; repeatable."),
    ("setup", list[str], "", "", "Your own shell lines, run after the modules."),
    ("env", list[str], "env", "NAME", "Further variable to pass on; repeatable."),
    ("sbatch", list[str], "sbatch", "OPTION[=VALUE]", "Any other option of sbatch; repeatable."),
    ("continuation", str, "continue", "auto|requeue|chain|none", "How a stopped job continues."),
    ("max_preemptions", int, "max-preemptions", "K", "Most preemptions to continue after."),
    ("max_crashes", int, "max-crashes", "K", "Most failures to continue after."),
    ("max_restarts", int, "max-restarts", "K", "Most restarts of failed ranks in place."),
    ("hang_timeout", float, "hang-timeout", "SECONDS", "Standstill that counts as a hang; 0: never."),
    ("hang_timeout_min", float, "hang-timeout-min", "SECONDS", "Least standstill that counts as a hang."),
    ("stop_timeout", float, "stop-timeout", "SECONDS", "Time for a stop with a checkpoint."),
    ("grace", float, "grace", "SECONDS", "For a script, between SIGTERM and SIGKILL."),
)  # fmt: skip
"""Key, type, flag (empty: not on the command line), what stands for its value, and its meaning."""
