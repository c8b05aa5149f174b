"""What is known of a data set, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ...data.config import BATCH_SIZE, AugmentConfig, DataLook, DatasetInfo, PartLook, Sampling
from ..config import printable, shortened
from ..console import note_line

_MAX_CLASSES = 8  # that the summary names
_MAX_PARTS = 4  # of a sample, that the summary describes
_LONGEST_NOTE = 400  # characters: names of classes may be of any length
_FACTS = ("input_shape", "input_dtype", "target_shape", "classes", "class_names", "fingerprint")


def data_lines(facts: DatasetInfo) -> list[str]:
    """Return what samples and classes are, in two lines, and notes about them."""
    lines = [] if facts.look is None else [look_line(facts.look)]
    if facts.train.class_counts:
        lines.append(_class_line(facts, facts.train.class_counts))
    else:
        lines += label_lines(facts)
    lines += [printable(facts.reading)] if facts.reading else []
    lines += returned_lines(facts)
    lines += [] if facts.sampling is None else [sampling_line(facts.sampling)]
    return [*lines, *note_lines(facts.all_notes)]


def returned_lines(facts: DatasetInfo) -> list[str]:
    """Return which settings the user's function has made, one a line; none where the config makes them."""
    made = [found for found in facts.found if found.key.endswith((".collate", ".pad", BATCH_SIZE))]
    return [
        printable(f"{found.key}: {json.dumps(found.value) if isinstance(found.value, dict) else found.value}")
        + f", as {printable(found.why.removesuffix(' returns it'))} returns it"
        for found in made
    ]


def sampling_line(sampling: Sampling) -> str:
    """Return what an epoch is, where it is not every sample once."""
    samples = f"an epoch is {sampling.epoch_size:,}"
    often = " to ".join(dict.fromkeys(f"{times:.3g}" for times in sampling.often))
    never = f", {sampling.never:,} never" if sampling.never else ""
    by = printable(sampling.by)
    if sampling.kind == "weights":
        return f"{samples} draws with replacement by {by}: a sample comes {often} times on average{never}"
    if len(sampling.names) == 1:
        return f"{samples} of {sampling.sizes[0]:,} samples by {by}: each comes once before any comes again"
    shares = [
        f"{printable(name)}: {share:,} of {size:,}"
        for name, share, size in zip(sampling.names, sampling.shares, sampling.sizes, strict=True)
    ]
    more = f", and {len(shares) - _MAX_CLASSES:,} more" if len(shares) > _MAX_CLASSES else ""
    shown = ", ".join(shares[:_MAX_CLASSES])
    return f"{samples} samples by {by}: {shown}{more}; a sample comes {often} times{never}"


def split_lines(facts: DatasetInfo) -> list[str]:
    """Say in one line what is done with splits besides ``train`` and ``val``; return no line where there are none."""
    if not facts.others:
        return []
    shown = ", ".join(f"{printable(name)} {split.length:,}" for name, split in facts.others.items())
    asked = [name for name in facts.others if name not in facts.validation]
    uses = [] if len(asked) == len(facts.others) else ["evaluated as val is"]
    which = printable(asked[0]) if len(asked) == 1 else "NAME"
    who = f"{' and '.join(map(printable, asked))} " if uses else "evaluated "
    uses += [f"{who}only by `launch eval --split {which}`"] if asked else []
    return [f"also {shown}: {'; '.join(uses)}"]


def note_lines(notes: Sequence[str]) -> list[str]:
    """Return notes on what was guessed and what is suspicious, one a line."""
    return [note_line(printable(note)[:_LONGEST_NOTE]) for note in notes]


def look_line(look: DataLook) -> str:
    """Return what samples are, and how many of them were looked at."""
    train, val = look.train, look.val
    parts = list(map(_part, train.parts))
    more = f", and {len(parts) - _MAX_PARTS} more" if len(parts) > _MAX_PARTS else ""
    looked = f"{train.samples:,} of {train.length:,}"
    looked += f" and {val.samples:,} of {val.length:,}" if val else ""
    return f"{', '.join(parts[:_MAX_PARTS]) or 'samples'}{more} (in {looked} samples)"


def augment_lines(config: AugmentConfig) -> list[str]:
    """Return how training images are changed, in one line; none where they are not."""
    parts = [f"crop {config.crop}"] if config.crop else []
    parts += ["flip"] if config.flip else []
    for step in config.steps:
        given = ", ".join(f"{key} {value}" for key, value in (step.model_extra or {}).items())
        parts.append(f"{step.use} ({given})" if given else step.use)
    return [printable(f"augmented, each image in each epoch anew: {'; '.join(parts)}")] if parts else []


def class_name(facts: DatasetInfo, label: int) -> str:
    """Name a class, by its number where it has no name."""
    return shortened(printable(facts.class_names[label])) if facts.class_names else str(label)


def data_document(facts: DatasetInfo, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Return what is known of a data set as plain values of JSON, with more ``notes``."""
    val = facts.val
    document = {
        "name": facts.name,
        "train_samples": facts.train.length,
        "val_samples": val.length if val else 0,
        **{key: getattr(facts, key) for key in _FACTS},
        "class_counts": facts.train.class_counts,
        "epoch_samples": facts.epoch_size,
        "sampling": None if facts.sampling is None else {**asdict(facts.sampling), "files": None},
        "val_class_counts": val.class_counts if val else None,
        "look": facts.look.to_json() if facts.look else None,
        "reading": facts.reading or None,
        "notes": [*facts.all_notes, *notes],
    }
    plain: dict[str, Any] = json.loads(json.dumps(document))
    return plain


def _class_line(facts: DatasetInfo, counts: tuple[int, ...]) -> str:
    """Return the classes with their numbers of training samples; once, where all have the same."""
    names = [class_name(facts, label) for label in range(min(len(counts), _MAX_CLASSES))]
    more = f", and {len(counts) - _MAX_CLASSES:,} more" if len(counts) > _MAX_CLASSES else ""
    number = f"{len(counts):,} {'class' if len(counts) == 1 else 'classes'}"
    if len(set(counts)) == 1:
        return f"{number} of {counts[0]:,} samples: {', '.join(names)}{more}"
    shown = [f"{name} ({count:,})" for name, count in zip(names, counts, strict=False)]
    return f"{number}: {', '.join(shown)}{more}"


def label_lines(facts: DatasetInfo) -> list[str]:
    """Return the labels that were seen of a set that does not tell all of them."""
    if facts.look is None:
        return []
    train = facts.look.train
    target = train.target
    if target is None or not 1 < len(target.labels) <= train.samples / 2:
        return []
    shown = [f"{label} in {count:,}" for label, count in target.labels[:_MAX_CLASSES]]
    more = f", and {len(target.labels) - _MAX_CLASSES:,} more" if len(target.labels) > _MAX_CLASSES else ""
    return [f"{len(target.labels):,} labels in {train.samples:,} samples: {', '.join(shown)}{more}"]


def _part(part: PartLook) -> str:
    kinds = " or ".join(map(str, part.kinds))
    ends = (
        "" if part.low is None or part.high is None else f" from {_number(part.low)} to {_number(part.high)}"
    )
    return printable(f"{part.name} {kinds}{ends}")


def _number(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:.4g}"
