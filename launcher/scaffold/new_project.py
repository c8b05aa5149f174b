"""A new project: the files of ``project/`` beside this one, without the ending that keeps them from being sources."""

from __future__ import annotations

from pathlib import Path

from ...data.common import UsageError, os_error_hint
from ..console import print_json, print_results

_TEMPLATES = Path(__file__).with_name("project")
_ENDING = ".txt"
_MAY_BE_THERE = {".git"}
"""A repository that was just made or cloned is empty, too."""


def make_project(folder: Path, *, as_json: bool) -> int:
    """Write a project that trains into a new or an empty folder; return the exit status.

    Raises:
        UsageError: there is something in the folder, or it cannot be written.
    """
    _refuse_filled(folder)
    files = {path.name.removesuffix(_ENDING): path for path in sorted(_TEMPLATES.glob(f"*{_ENDING}"))}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, template in files.items():
            (folder / name).write_bytes(template.read_bytes())
    except OSError as error:
        raise UsageError(
            f"{folder}: {error.strerror}", os_error_hint(error) or "name a folder in one of yours"
        ) from error
    if as_json:
        print_json({"schema_version": 1, "folder": str(folder.absolute()), "files": list(files)})
    else:
        print_results(_lines(folder, list(files)))
    return 0


def _refuse_filled(folder: Path) -> None:
    try:
        found = sorted(path.name for path in folder.iterdir() if path.name not in _MAY_BE_THERE)
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise UsageError(f"{folder}: it is a file, or in one", "name a new folder") from error
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}", "name a new folder") from error
    if found:
        raise UsageError(
            f"{folder} is not empty: {', '.join(found[:3])}{', …' if len(found) > 3 else ''}",  # noqa: PLR2004 - names in a line
            "name a new folder, or an empty one: nothing of yours is replaced",
        )


def _lines(folder: Path, files: list[str]) -> list[str]:
    first = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    return [
        f"{folder}: {', '.join(files)}",
        f"next: {first}launch train config.yaml",
    ]
