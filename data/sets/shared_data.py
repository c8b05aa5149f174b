"""What a user's own `data()` has returned, kept where all processes of this machine map it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..cache import cache_root, format_bytes, free_bytes, list_entries, memory_bytes, remove_entry
from ..common import MachineError, UsageError
from ..config import DataConfig, DatasetInfo
from ..sharing import NotShared, PackedValue, WatchedCall
from ..sources import user_dataset
from .mixture import part_config

_SHARE = 0.5
_SAID_SECONDS, _SAID_BYTES = 0.5, 2**24
"""Costs from which on the plan names them."""


def with_shared_data(facts: DatasetInfo, config: DataConfig, base: Path) -> DatasetInfo:
    """Store what a user's callable has returned, where other processes can have it, and say what is so.

    Args:
        facts: of the data set, whose calls were watched.
        config: the ``data`` section.
        base: the folder of the config file.

    Raises:
        UsageError: it is to be shared, and cannot be.
    """
    parts = {
        name: with_shared_data(part, part_config(config, name), base) for name, part in facts.parts.items()
    }
    if parts:
        readings = dict.fromkeys(part.reading for part in parts.values() if part.reading)
        return replace(facts, parts=parts, reading="; ".join(readings) or facts.reading)
    call = user_dataset.user_call(config, base) if facts.kind == "user" else None
    if call is None:
        return facts
    try:
        shared = _stored(call, config, base)
    except NotShared as reason:
        return replace(facts, reading=_not_shared(call, config, str(reason)))
    return replace(facts, shared=shared, reading=_shared(call, config))


def _stored(call: WatchedCall, config: DataConfig, base: Path) -> dict[str, str]:
    packed = call.packed
    if packed is None:
        raise NotShared(call.why_not)
    share = 1.0 if config.share == "on" else _SHARE
    size, free, memory = packed.array_bytes, free_bytes(cache_root()), memory_bytes()
    if size > share * free:
        raise NotShared(f"{cache_root()} has room for {format_bytes(free)}")
    if size > share * memory:
        raise NotShared(f"this machine has a memory of {format_bytes(memory)}")
    try:
        shared = packed.store(f"{config.use} {config.args} {base}", f"what {config.use} returned")
    except MachineError as error:
        raise NotShared(error.message) from error
    remove_earlier(shared["entry"])
    return shared


def remove_earlier(name: str) -> None:
    """Remove what the same call has returned before, unless a process has it mapped."""
    maker = name.rpartition("-")[0]
    for other in list_entries():
        if other.name.rpartition("-")[0] == maker and other.name != name and not other.in_use:
            remove_entry(other.name)


def _shared(call: WatchedCall, config: DataConfig) -> str:
    packed = call.packed
    if packed is None or (call.seconds < _SAID_SECONDS and _size(packed) < _SAID_BYTES):
        return ""
    held = len(packed.stream)
    rest = f"; each holds {format_bytes(held)} of Python objects besides" if held >= _SAID_BYTES else ""
    mapped = format_bytes(packed.array_bytes)
    return f"{config.use}: called once, {mapped} that all processes of a machine share{rest}"


def _not_shared(call: WatchedCall, config: DataConfig, reason: str) -> str:
    if config.share == "on":
        raise UsageError(
            f"data.share: what {config.use} returned cannot be shared: {reason}",
            "leave it out, or correct it",
        )
    if call.seconds < _SAID_SECONDS and call.bytes < _SAID_BYTES:
        return ""
    return f"{config.use}: called in every process, which costs each {call.cost}: {reason}"


def _size(packed: PackedValue) -> int:
    return packed.array_bytes + len(packed.stream)
