"""What a shell completes: runs, recipes and config files, config keys; and the script that makes it ask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...data.common import UsageError

SHELLS = ("bash", "zsh", "fish")
_FILES = ("*.yaml", "*.yml")
_NO_SPACE = """
_launch_words() {
    _launch_completion "$@"
    [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace
    return 0
}

complete -o default -F _launch_words launch
"""
"""A key ends with ``=``, after which its value is to follow at once."""


def run_names(beginning: str) -> list[str]:
    """List the runs whose names begin so, the newest first."""
    from ..runs import ANY_RUN, names_by_age

    return [name for name in reversed(names_by_age(ANY_RUN)) if name.startswith(beginning)]


def config_names(beginning: str) -> list[str]:
    """List the recipes and the config files here that begin so."""
    from ..config import recipes

    folder = Path(beginning) if beginning.endswith("/") else Path(beginning).parent
    files = [str(path) for pattern in _FILES for path in sorted(folder.glob(pattern))]
    return [name for name in (*recipes(), *files) if name.startswith(beginning)]


def setting_keys(beginning: str) -> list[str]:
    """List the config keys that begin so, each with its equals sign; none while no letter is there."""
    if not beginning or "=" in beginning:
        return []
    from ..reference import config_options

    keys = {option.key for option in config_options().values()}
    return sorted(
        f"{key}=" for key in keys if key.startswith(beginning) and key == key.lower() and "[" not in key
    )


def completion_script(shell: str, variable: str) -> str:
    """Return the script that makes a shell complete ``launch``.

    Args:
        shell: its name.
        variable: which the script sets for ``launch`` to answer.

    Raises:
        UsageError: it is for none of the shells that can.
    """
    from typer.completion import get_completion_script

    if shell not in SHELLS:
        raise UsageError(f"{shell or 'this shell'}: no script for it", f"name one of {', '.join(SHELLS)}")
    script = get_completion_script(**_options(shell, variable))
    return script + (_NO_SPACE if shell == "bash" else "")


def install_completion(shell: str, variable: str) -> Path:
    """Make every new shell of this user complete ``launch``; return the file that was written.

    Args:
        shell: its name.
        variable: which the script sets for ``launch`` to answer.

    Raises:
        UsageError: there is no script for this shell.
    """
    from typer.completion import install

    script = completion_script(shell, variable)
    path = Path(install(**_options(shell, variable))[1])
    if shell == "bash":
        path.write_text(script, encoding="utf-8")
    return path


def _options(shell: str, variable: str) -> dict[str, str]:
    return {"prog_name": "launch", "complete_var": variable, "shell": shell}


def start_completion() -> dict[str, Callable[[str], list[str]]]:
    """Let Typer answer shells; return what completes a run, a config and a key."""
    from typer.completion import completion_init

    completion_init()
    return {"run": run_names, "config": config_names, "key": setting_keys}
