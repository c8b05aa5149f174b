"""Documents packed into samples of one length: tokens are made once per machine, and mapped by every rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..cache import CacheEntry, cached, entry_key, fingerprint
from ..common import DamagedError, UsageError
from ..config import DataConfig, DatasetInfo, PackConfig, SplitInfo
from ..packing import (
    ENDS,
    PACKING_ALGORITHM,
    TOKENS,
    PackedRows,
    Tokenizer,
    contents_hash,
    packed_length,
    raw_documents,
    store_tokens,
)
from ..samples import SampleSource, fixed_randomness
from ..sources import DataSource, MapSplit, PreparedSplit, Reader, no_inputs

_BATCHES = ("data.collate", "data.pad")
_COLUMNS = ("weights", "group", "targets")
"""What a user's function may return besides its splits."""
_OTHER_SETTINGS = (
    "val_size",
    "fold",
    "weights",
    "balance",
    "group",
    "stratify",
    "collate",
    "pad",
    "scale_uint8",
)


def packed(find: Callable[[str], DataSource]) -> DataSource:
    """Make the source of packed documents.

    Args:
        find: returns the source of the documents by its name.
    """
    return DataSource("pack", "Documents, packed.", None, partial(_make_ready, find), _open, _read, no_inputs)


def _make_ready(
    find: Callable[[str], DataSource],
    arguments: dict[str, Any],  # noqa: ARG001 - DataSource
    config: DataConfig,
    base: Path,
) -> DatasetInfo:
    pack = _pack(config)
    _refuse_other_settings(config, pack)
    inner = config.model_copy(update={"pack": None})
    source = find(config.use)
    facts = source.prepare(inner, base)
    _refuse_returned(source, facts, inner, base)
    names = ["train", *(["val"] if facts.val else []), *facts.others]
    with fixed_randomness():
        entries = {which: _entry(source, facts, which, config, base) for which in names}
    infos = {which: _split(which, entry, pack) for which, entry in entries.items()}
    made = {which: entry.hashes for which, entry in entries.items()}
    return replace(
        facts,
        kind="shards",
        train=infos["train"],
        val=infos.get("val"),
        others={which: info for which, info in infos.items() if which not in ("train", "val")},
        input_shape=(pack.length,) if pack.sample == "pair" else None,
        input_dtype="int64" if pack.sample == "pair" else None,
        target_shape=(pack.length,) if pack.sample == "pair" else None,
        classes=None,
        class_names=None,
        mean=None,
        std=None,
        scale_uint8=False,
        fingerprint=fingerprint("pack", PACKING_ALGORITHM, pack.model_dump(mode="json"), made),
        notes=tuple(_note(which, entry, pack) for which, entry in entries.items()),
    )


def _pack(config: DataConfig) -> PackConfig:
    if config.pack is None:
        raise ValueError("nothing is packed")
    return config.pack


def _refuse_other_settings(config: DataConfig, pack: PackConfig) -> None:
    for key in _OTHER_SETTINGS:
        if getattr(config, key):
            how = "validate on documents of their own" if key in ("val_size", "fold") else "leave it out"
            raise UsageError(f"data.{key}: samples are cut from many documents, data.pack", how)
    if not config.augment.is_off:
        raise UsageError("data.augment: tokens are not images", "leave it out")
    if config.on_bad == "skip":
        raise UsageError(
            "data.on_bad: skip: a document that cannot be read would move all others", "leave it out"
        )
    if pack.sample == "dict" and config.samples != "any":
        raise UsageError(
            "data.pack.sample: dict: nobody says what of it is the target",
            "set data.target=labels, for a model that is called with the other entries by name, or train by a step",
        )


def _refuse_returned(source: DataSource, facts: DatasetInfo, inner: DataConfig, base: Path) -> None:
    """Refuse what ``data()`` says of its samples: they are documents here."""
    returned = [found.key.removeprefix("data.") for found in facts.found if found.key in _BATCHES]
    returned += [key for key in _COLUMNS if source.column(inner, base, key, None) is not None]
    if returned:
        raise UsageError(
            f"data.pack: {inner.use} returned {returned[0]!r}, which is known of documents, not of packed samples",
            "leave it out",
        )


def _entry(source: DataSource, facts: DatasetInfo, which: str, config: DataConfig, base: Path) -> CacheEntry:
    """Return the tokens of a split, made where they are not there."""
    pack = _pack(config)
    info = facts.split(which)
    if info is None:
        raise ValueError(f"{facts.name} has no split {which!r}")
    inner = config.model_copy(update={"pack": None})
    split = source.open(PreparedSplit(facts, which, info, None, inner, base))
    shuffled = which == "train" and pack.order == "shuffled"
    tokenizer = Tokenizer(pack, base)

    def build(folder: Path) -> dict[str, Any]:
        documents = enumerate(raw_documents(split, pack.text))
        tokens = (tokenizer.tokens(document, number) for number, document in documents)
        return store_tokens(folder, tokens, pack.end, shuffled=shuffled)

    contents = (
        [facts.fingerprint, which]
        if facts.kind == "shards"
        else contents_hash(raw_documents(split, pack.text))
    )
    known = [PACKING_ALGORITHM, contents, pack.text, pack.end, shuffled]
    return cached(entry_key("pack", known, tokenizer.fingerprint(raw_documents(split, pack.text))), build)


def _split(which: str, entry: CacheEntry, pack: PackConfig) -> SplitInfo:
    count = packed_length(entry.facts["tokens"], pack)
    if not count:
        raise DamagedError(
            f"data.pack.length: the {entry.facts['documents']:,} {which} documents have {entry.facts['tokens']:,}"
            f" tokens, fewer than one sample of {pack.length:,} needs",
            "choose a shorter length, or more documents",
        )
    return SplitInfo(count, {"tokens": str(entry.folder / TOKENS), "ends": str(entry.folder / ENDS)})


def _note(which: str, entry: CacheEntry, pack: PackConfig) -> str:
    documents, tokens = entry.facts["documents"], entry.facts["tokens"]
    count = packed_length(tokens, pack)
    rest = tokens - count * pack.length - (pack.sample == "pair")
    left = f"; {_counted(rest, 'token')} at the end in none" if rest else ""
    return (
        f"{which}: {_counted(documents, 'document')} of {tokens:,} tokens packed into {_counted(count, 'sample')} of"
        f" {pack.length:,}{left}"
    )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _rows(split: PreparedSplit) -> PackedRows:
    return PackedRows(split.info.files, _pack(split.config))


def _open(split: PreparedSplit) -> MapSplit:
    rows = _rows(split)
    pairs, target = split.config.samples != "any", split.config.target
    return MapSplit(rows, None, SampleSource(), pairs=pairs, many=rows, target=target)


def _read(split: PreparedSplit) -> Reader:
    rows = _rows(split)
    return len(rows), rows.__getitem__
