"""Notes on what is suspicious about a data set: what is often a mistake and sometimes meant."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import DatasetInfo, PartLook, SplitLook

_MOST_NAMES = 5
"""Classes that a note names."""


def class_notes(facts: DatasetInfo) -> list[str]:
    """Note classes that training or validation hardly sees."""
    counts = facts.train.class_counts
    if counts is None or not sum(counts):
        return []
    notes = [] if sum(map(bool, counts)) > 1 else ["all training samples are of one class"]
    for number, what in ((0, "no training sample"), (1, "one training sample only")):
        notes += _class_note([label for label, count in enumerate(counts) if count == number], facts, what)
    validated = facts.val.class_counts if facts.val else None
    if validated is not None:
        unseen = [
            label for label, (n, val) in enumerate(zip(counts, validated, strict=True)) if n and not val
        ]
        notes += _class_note(unseen, facts, "no validation sample")
    return notes


def _class_note(labels: Sequence[int], facts: DatasetInfo, what: str) -> list[str]:
    if not labels:
        return []
    names = [facts.class_names[label] if facts.class_names else str(label) for label in labels[:_MOST_NAMES]]
    more = ", …" if len(labels) > _MOST_NAMES else ""
    have = "class has" if len(labels) == 1 else "classes have"
    return [f"{len(labels):,} {have} {what}: {', '.join(names)}{more}"]


def value_notes(train: SplitLook, val: SplitLook | None) -> list[str]:
    """Note values that no model can learn from, and samples that differ in kind."""
    notes = []
    for which, look in (("training", train), ("validation", val)):
        for part in look.parts if look else ():
            notes += _part_notes(part, which, look.samples if look else 0)
        if look and look.unreadable:
            tried = look.samples + look.unreadable
            notes.append(f"{look.unreadable} of {tried} {which} samples that were tried cannot be read")
    return [*notes, *([] if val is None else _difference(train, val))]


def _part_notes(part: PartLook, which: str, samples: int) -> list[str]:
    notes = []
    if len(part.kinds) > 1:
        kinds = ", ".join(f"{kind} in {kind.samples}" for kind in part.kinds[:_MOST_NAMES])
        notes.append(f"{which} samples differ in kind: {part.name} is {kinds} samples")
    if part.not_finite:
        notes.append(
            f"{part.name} holds NaN or infinite numbers in {part.not_finite} of {samples} {which} samples"
        )
    if samples > 1 and part.low is not None and part.low == part.high and part.name.startswith("input"):
        notes.append(
            f"{part.name} is {part.low:g} throughout, in all {samples} {which} samples that were looked at"
        )
    return notes


def _difference(train: SplitLook, val: SplitLook) -> list[str]:
    """Note what validation has otherwise than training, by type."""
    there = {part.name: {_in_a_batch(kind.type) for kind in part.kinds} for part in train.parts}
    return [
        f"{part.name} is {kind.type} in validation and {', '.join(sorted(there[part.name]))} in training"
        for part in val.parts
        for kind in part.kinds
        if part.name in there and _in_a_batch(kind.type) not in there[part.name]
    ]


def _in_a_batch(type_: str) -> str:
    """Return the type that values have in a batch: Python's numbers become tensors of 64 bits there."""
    return {"int": "int64", "float": "float64"}.get(type_, type_)
