"""Which variables of the command's environment its hosts get: all but those of a machine, a login or another launch.

They travel inside ssh and are in no command line, so secrets may be among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_OF_A_MACHINE_OR_A_LOGIN = re.compile(
    r"PATH|HOME|USER|LOGNAME|USERNAME|SHELL|MAIL|PWD|OLDPWD|SHLVL|_|HOST|HOSTNAME|HOSTTYPE|TMPDIR|TEMP|TMP|TTY"
    r"|TERM.*|COLORTERM|COLUMNS|LINES|LS_COLORS|DISPLAY|WAYLAND_DISPLAY|XAUTHORITY|WINDOWID|STY|TMUX.*"
    r"|XDG_RUNTIME_DIR|XDG_SESSION_.*|XDG_SEAT|XDG_VTNR|DBUS_.*|SSH_.*|GPG_.*|GNOME_.*|DESKTOP_.*"
    r"|INVOCATION_ID|JOURNAL_STREAM|SYSTEMD_.*|NOTIFY_SOCKET|LISTEN_.*|MEMORY_PRESSURE_.*|BASH_FUNC_.*"
)
_OF_ANOTHER_LAUNCH = re.compile(
    r"(SLURM|SLURMD|SBATCH|SRUN|SALLOC|PMI|PMIX|OMPI|PRTE|MPICH|HYDRA|PALS|ALPS|JSM|LSB|LSF|PBS|FLUX|PET|TORCHELASTIC"
    r"|JOB_COMPLETION)\d?_.*|(GROUP_|ROLE_|LOCAL_)?(RANK|WORLD_SIZE)|ROLE_NAME|NODE_RANK|MASTER_ADDR|MASTER_PORT"
    r"|LOCKSTEP_(RUN_MARK|AGENT|KEY|SSH|MEETING)|WANDB_SERVICE|WANDB_RUN_ID|WANDB_SWEEP_ID"
)


def carried_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of ``environment`` that every host gets."""
    return {
        name: value
        for name, value in environment.items()
        if not _OF_A_MACHINE_OR_A_LOGIN.fullmatch(name) and not _OF_ANOTHER_LAUNCH.fullmatch(name)
    }


def node_environment(
    own: Mapping[str, str], carried: Mapping[str, str], python_folder: str, key: str
) -> dict[str, str]:
    """Return the environment of a node's launch.

    Args:
        own: of the host's process.
        carried: from the command that has started it.
        python_folder: of this Python, whose programs come first, as where the command was started.
        key: by which the nodes know each other.
    """
    path = own.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    first = "" if path.partition(":")[0] == python_folder else f"{python_folder}:"
    return {**own, **carried, "PATH": first + path, "LOCKSTEP_KEY": key}
