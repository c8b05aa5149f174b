"""``clusters.yaml``: what a user's clusters need, one profile each, in the words of the ``slurm:`` section."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...data.common import UsageError, closest_name
from ..config import KeyPath, YamlFile, dotted, kind_of, listing, printable, read_yaml, wrong_value
from ..slurm import SlurmConfig, declared_options
from .option_layers import OptionLayer

DEFAULT = "default"
"""The profile for clusters that have none of their own name."""


@dataclass(frozen=True)
class Profile:
    """The settings that apply to every job on one cluster."""

    name: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    """Keys of the ``slurm:`` section."""
    lines: dict[str, int] = field(default_factory=dict)
    """Key to its line in the file."""

    @property
    def layer(self) -> OptionLayer:
        """The values, each with the profile and the line that it is from."""
        whence = {key: f"cluster {self.name}, clusters.yaml:{self.lines.get(key, 1)}" for key in self.values}
        return OptionLayer(self.values, whence)


def clusters_file() -> Path:
    """Return ``$XDG_CONFIG_HOME/lockstep/clusters.yaml``, else the one under ``~/.config``."""
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config, "lockstep", "clusters.yaml")


def find_profile(wanted: str | None, cluster: str | None) -> Profile:
    """Find the profile that a job is submitted with.

    Args:
        wanted: ``--cluster``; None to let the cluster's own name decide.
        cluster: what SLURM calls this cluster; None where that is not known.

    Raises:
        UsageError: the file is wrong, or has no profile of that name.
    """
    path = clusters_file()
    if not path.exists():
        if wanted is None:
            return Profile()
        raise UsageError(f"--cluster {printable(wanted)}: there is no {path}", "write the profile there")
    file = read_yaml(path)
    _refuse(path, file)
    if wanted is not None and wanted not in file.values:
        close = closest_name(wanted, file.values)
        raise UsageError(
            f"--cluster {printable(wanted)}: {path} has no profile of this name"
            + (f"; did you mean {close}?" if close else ""),
            "it has " + (", ".join(map(printable, file.values)) or "none"),
        )
    name = wanted or (cluster if cluster in file.values else DEFAULT)
    lines = {str(key[1]): line for key, line in file.lines.items() if key[:1] == (name,) and len(key) > 1}
    return Profile(name, file.values[name] or {}, lines) if name in file.values else Profile()


def _refuse(path: Path, file: YamlFile) -> None:
    """Report every mistake in every profile at once, before the day on which the profile is needed."""
    problems = list(file.problems)
    for name, values in file.values.items():
        if isinstance(values, dict):
            problems += [(_line(file, (name, *loc)), text) for loc, text in mistakes(values, (name,))]
        elif values is not None:
            expected = f'{printable(name)} must hold settings, such as "{{partition: gpu}}"'
            problems.append((file.lines[name,], f"{expected}, not {kind_of(values)}"))
    if problems:
        raise UsageError(listing(f"{path}:{line}: {message}" for line, message in sorted(problems)))


def command_line(said: dict[str, Any]) -> OptionLayer:
    """Check the options of the command line, which are keys of the ``slurm:`` section; None for one not given.

    Raises:
        UsageError: one of them is wrong.
    """
    given = {key: value for key, value in said.items() if value not in (None, [], {})}
    wrong = mistakes(given)
    if wrong:
        problems = (f"--{flag(str(path[0]))}{text.removeprefix(str(path[0]))}" for path, text in wrong)
        raise UsageError(listing(problems), "`launch submit --help` has every option")
    return OptionLayer(given, {key: f"--{flag(key)}" for key in given})


def flag(key: str) -> str:
    """Return the name on the command line of a key of the ``slurm:`` section."""
    option = declared_options(SlurmConfig).get(key)
    return (option and option.flag) or key


def mistakes(values: dict[str, Any], above: KeyPath = ()) -> list[tuple[KeyPath, str]]:
    """Find what is wrong with keys of the ``slurm:`` section: each key's path, and a message.

    Args:
        values: the keys.
        above: what they stand under, for the words.
    """
    try:
        SlurmConfig.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        found: dict[KeyPath, str] = {}
        for problem in error.errors(include_url=False):
            path: KeyPath = problem["loc"]
            if problem["type"] == "extra_forbidden":
                found[path] = _unknown((*above, *path))
            elif not any(path[:depth] in found for depth in range(1, len(path))):
                # A union complains once for each of its members: the first speaks for all.
                found.setdefault(
                    path[:1] if path[0] == "gpus" else path, wrong_value((*above, *path), problem)
                )
        return list(found.items())
    return []


def _unknown(path: KeyPath) -> str:
    close = closest_name(str(path[-1]), SlurmConfig.model_fields)
    hint = f"; did you mean {close}?" if close else "; there is " + ", ".join(SlurmConfig.model_fields)
    return f'unknown key "{dotted(path)}"{hint}'


def _line(file: YamlFile, path: KeyPath) -> int:
    return next(file.lines[path[:depth]] for depth in range(len(path), -1, -1) if path[:depth] in file.lines)
