"""``launch cache``: what the cache of arrays and decoded images holds, and its removal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ...data.common import MachineError, UsageError
from ..config import printable
from ..console import print_json, print_results

if TYPE_CHECKING:
    from ...data.cache import ListedEntry

_DAY = 86400.0
_HOUR = 3600.0


def show_cache(names: Sequence[str], *, remove: bool, as_json: bool) -> int:
    """List the cache's entries, or remove them unless they are in use; the exit status.

    Args:
        names: entries; none are all of them.
        remove: remove instead of listing.
        as_json: for programs.

    Raises:
        UsageError: there is no such entry.
        MachineError: one that was named is in use.
    """
    from ...data.cache import cache_root, list_entries, remove_entry

    entries = _named(list_entries(), names)
    removed = {entry.name for entry in entries if remove and remove_entry(entry.name)}
    kept = [entry for entry in entries if entry.name not in removed]
    if as_json:
        rows = [{**asdict(entry), "removed": entry.name in removed} for entry in entries]
        print_json({"schema_version": 1, "folder": str(cache_root()), "entries": rows})
    else:
        print_results(
            _lines(
                kept, removed=[entry for entry in entries if entry.name in removed], root=str(cache_root())
            )
        )
    if remove and names and kept:
        raise MachineError(
            f"{', '.join(entry.name for entry in kept)}: in use, and not removed",
            "remove it when nothing trains on it",
        )
    return 0


def _named(entries: Sequence[ListedEntry], names: Sequence[str]) -> list[ListedEntry]:
    there = {entry.name: entry for entry in entries}
    for name in names:
        if name not in there:
            raise UsageError(f"the cache has no entry {name!r}", "`launch cache` lists what it has")
    return [there[name] for name in names] if names else list(entries)


def _lines(entries: Sequence[ListedEntry], removed: Sequence[ListedEntry], root: str) -> list[str]:
    from ...data.cache import format_bytes

    lines = [f"removed {entry.name}  {format_bytes(entry.bytes)}" for entry in removed]
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        state = "in use" if entry.in_use else _age(time.time() - entry.used)
        about = entry.about if entry.is_whole else "interrupted: continues when it is needed again"
        lines.append(
            f"{entry.name:<{width}}  {format_bytes(entry.bytes):>9}  {state:>9}  {printable(about)}".rstrip()
        )
    whole = format_bytes(sum(entry.bytes for entry in entries))
    return [*lines, f"{root}: {len(entries)} {'entry' if len(entries) == 1 else 'entries'}, {whole}"]


def _age(seconds: float) -> str:
    if seconds < _HOUR:
        return f"{max(0.0, seconds) / 60:.0f} min ago"
    return f"{seconds / _HOUR:.0f} h ago" if seconds < _DAY else f"{seconds / _DAY:.0f} d ago"
