"""``launch show``: the first training samples and the schedule as pictures, and how many samples each class has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...data.config import DatasetInfo, Sampling
from ..config import ResolvedConfig, printable
from ..console import PICTURES, print_json, print_results, refuse_output
from ..process import ask_child
from ..train import (
    DataPreparation,
    class_name,
    data_document,
    label_lines,
    look_line,
    loss_notes,
    note_lines,
    sampling_line,
    schedule_document,
)

_BAR = 40  # characters of the longest bar


def show_samples(resolved: ResolvedConfig, out: Path | None, *, force: bool = False, as_json: bool) -> int:
    """Draw the samples and print the counts; the exit status.

    Args:
        resolved: the config.
        out: the picture's file; the default one is renewed.
        force: replace a file that was named and is there.
        as_json: print one document.

    Raises:
        UsageError: the file is there, or is not a picture by its name.
    """
    if out is not None:
        refuse_output(out, PICTURES, force=force)
    resolved, facts = resolved.with_found(DataPreparation(resolved.config.data, resolved.base).wait())
    path = (out or Path(f"{resolved.name}-samples.png")).resolve()
    question = {
        "data": resolved.config.data.model_dump(mode="json"),
        "base": str(resolved.base),
        "facts": facts.to_json(),
        "seed": resolved.config.train.seed,
        "out": str(path),
    }
    answer = ask_child("lockstep.data.sample_grid", question, "picture")
    document = {
        "data": facts.name,
        **data_document(facts, loss_notes(resolved.config.trained_loss, facts)),
        **answer,
        **_schedule(resolved, facts, path),
    }
    if as_json:
        print_json({"schema_version": 1, **document})
    else:
        print_results(_lines(facts, document))
    return 0


def _schedule(resolved: ResolvedConfig, facts: DatasetInfo, beside: Path) -> dict[str, Any]:
    """Draw the learning rates into a file beside the samples, unless they are all the same."""
    from ...data.order import EpochBatches

    config = resolved.config
    if config.schedule.use in ("constant", "plateau") and config.schedule.warmup is None:
        return {}
    steps_per_epoch = EpochBatches(facts.epoch_size, config.data.batch_size).steps
    picture = beside.with_name(f"{beside.stem.removesuffix('-samples')}-schedule.png")
    length = config.train.run_length(steps_per_epoch)
    picture.parent.mkdir(parents=True, exist_ok=True)
    return {"schedule": schedule_document(config, length, resolved.base, picture)}


def _lines(facts: DatasetInfo, document: dict[str, Any]) -> list[str]:
    shape = " x ".join(map(str, facts.input_shape or ())) or "unknown shape"
    val = f"{document['val_samples']:,} for validation"
    lines = [f"{facts.name}: {facts.train.length:,} training samples, {val}, input {shape}"]
    lines += [*([look_line(facts.look)] if facts.look else []), *(_class_table(facts) or label_lines(facts))]
    lines += [] if facts.sampling is None else [sampling_line(facts.sampling), *_share_table(facts.sampling)]
    lines += note_lines(document["notes"])
    if not document.get("picture") and not document.get("problem"):
        lines.append("note: no picture: the inputs are not images")
    if document.get("problem"):
        lines.append(printable(f"note: no picture: {document['problem'].splitlines()[0]}"))
    if document.get("picture"):
        lines.append(f"picture: {document['picture']}")
    if "schedule" in document:
        lines.append(f"schedule: {document['schedule']['picture']}")
    return lines


def _class_table(facts: DatasetInfo) -> list[str]:
    """Return one line for each class: its name, its samples for training and for validation, and a bar."""
    counts = facts.train.class_counts or ()
    validated = facts.val.class_counts if facts.val else None
    names = [class_name(facts, label) for label in range(len(counts))]
    width = max(map(len, names), default=0)
    rows = []
    for label, (name, count) in enumerate(zip(names, counts, strict=True)):
        val = f" + {validated[label]:,}" if validated else ""
        bar = "#" * round(_BAR * count / max(1, *counts))
        rows.append(f"  {name:<{width}}  {count:>8,}{val:<9}  {bar}".rstrip())
    return rows


def _share_table(sampling: Sampling) -> list[str]:
    """Return one line for each part of an epoch: its name, its samples in an epoch, and a bar."""
    if len(sampling.names) < 2:  # noqa: PLR2004 - parts that differ
        return []
    names = [printable(name) for name in sampling.names]
    width = max(map(len, names))
    rows = zip(names, sampling.shares, sampling.sizes, strict=True)
    return [
        f"  {name:<{width}}  {share:>8,} an epoch, each {share / size if size else 0:.3g} times"
        f"  {'#' * round(_BAR * share / max(1, *sampling.shares))}".rstrip()
        for name, share, size in rows
    ]
