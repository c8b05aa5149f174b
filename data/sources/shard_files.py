"""Which files a set of shards consists of: patterns and folders on this machine, and addresses."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common import UsageError, relative_path_hint
from ..shards import StoredFile
from ..storage import LocalFile, RemoteFile, holds_credentials, is_address, list_addresses


@dataclass(frozen=True)
class ShardFolder:
    """A folder that names of shards begin at, and the servers of those that are addresses.

    Args:
        base: folder of the config, where relative paths begin.
        storage: options of fsspec's file system, for addresses.
        patience: seconds for which a server that fails is asked again.
    """

    base: Path
    storage: Mapping[str, Any]
    patience: float

    def locate(self, name: str) -> StoredFile:
        """Return the file of a name."""
        if is_address(name):
            return RemoteFile(name, self.storage, self.patience)
        return LocalFile(str(self.base / name))

    def find(self, key: str, patterns: Sequence[str] | None) -> list[str]:
        """Return the files of all patterns, each pattern's sorted: relative to the base where they lie in it.

        Args:
            key: of ``data.args``, for messages.
            patterns: as the config has them.

        Raises:
            UsageError: there are none, one matches nothing, or two name the same file.
            MachineError: a server does not answer.
        """
        if not patterns:
            raise UsageError(
                f"data.args.{key} is missing", 'name the files: data.args.files="train/*.parquet"'
            )
        names = [name for pattern in patterns for name in self._matching(key, pattern)]
        twice = (
            next((name for name in names if names.count(name) > 1), None)
            if len(set(names)) < len(names)
            else None
        )
        if twice is not None:
            raise UsageError(f"data.args.{key}: two patterns name {twice}", "name every file once")
        return names

    def _matching(self, key: str, pattern: str) -> list[str]:
        if is_address(pattern):
            found = list_addresses(pattern, self.storage)
            if not found:
                raise UsageError(
                    f"data.args.{key}: there is no file {pattern}", "look at the address, and who may read it"
                )
            return found
        full = str(self.base / Path(pattern).expanduser())
        found = _saved_files(key, Path(full)) if Path(full).is_dir() else _glob(full)
        if not found:
            raise UsageError(f"data.args.{key}: there is no file {full}", relative_path_hint(self.base))
        base = self.base
        return [os.path.relpath(path, base) if Path(path).is_relative_to(base) else path for path in found]


def check_storage(key: str, value: Any) -> dict[str, Any]:
    """Check the options of a file system; secrets have no place in a config, which is kept and logged."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise UsageError(
            f"data.args.{key}: {value!r} is not a map of options",
            'such as {endpoint_url: "http://host:9000"}',
        )
    for name, setting in _settings_in(value):
        is_secret = any(word in name.lower() for word in _SECRETS)
        if is_secret or (isinstance(setting, str) and holds_credentials(setting)):
            raise UsageError(
                f"data.args.{key}.{name}: a config is kept in the run's folder and logged, so no secret may be in it",
                "set it in the environment (for s3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)",
            )
    return value


_SECRETS = (
    *("key", "secret", "token", "passw", "pwd", "credential", "auth"),
    *("cookie", "connection_string", "sas"),
)


def _settings_in(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of a map with their names, also those of the maps and lists in it."""
    pairs = [(name, one) for one in value] if isinstance(value, list) else []
    if isinstance(value, dict):
        pairs = [(str(key), one) for key, one in value.items()]
    for key, setting in pairs:
        yield key, setting
        yield from _settings_in(setting, key)


def _glob(full: str) -> list[str]:
    return sorted(path for path in glob.glob(full, recursive=True) if Path(path).is_file())  # noqa: PTH207


def _saved_files(key: str, folder: Path) -> list[str]:
    """Return the files of a data set that Hugging Face's ``save_to_disk`` wrote, in its order."""
    state = folder / "state.json"
    if not state.is_file():
        inside = sorted(one.parent.name for one in folder.glob("*/state.json"))
        how = (
            f"name one of {', '.join(inside)} in it"
            if inside
            else f'name its files: "{folder.name}/*.parquet"'
        )
        raise UsageError(f"data.args.{key}: {folder} is a folder without a state.json", how)
    try:
        return [str(folder / file["filename"]) for file in json.loads(state.read_text())["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"data.args.{key}: {state} names no files: {error!r}", "save the data set again"
        ) from error
