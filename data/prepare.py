"""Prepares a data set before the ranks start, in a short-lived child process: the ranks only open files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .cache import Array, CacheEntry, cached, class_counts, entry_key, fingerprint, load_array, save_array
from .common import LockstepError, UsageError, die_with_parent, raised
from .config import DataConfig, DatasetInfo, SplitInfo
from .loading import check_augment
from .order import ALGORITHM, permute, shard
from .sources import find_source, held_inputs, sample_reader, with_decoded_images
from .survey import introduce

_SPLIT_KEY = (0x73706C6974, 0)  # "split" in ASCII: one fixed permutation for every split of n samples


def prepare(
    config: DataConfig,
    base: Path,
    say: Callable[[str, str], None] = lambda *_: None,
    *,
    build_cache: bool = False,
) -> DatasetInfo:
    """Prepare all that the ranks need of a data set: downloaded, checked, cached and split.

    Args:
        config: the ``data`` section.
        base: the folder of the config file, absolute.
        say: is told what takes long, and how far it is.
        build_cache: decode images into the cache; else what is there is used.

    Raises:
        UsageError: the section is wrong.
        MachineError: the data is not there and cannot be had, or the cache cannot be written.
        DamagedError: the data is damaged.
        TrainingError: the user's own callable raised, or broke its contract.
    """
    facts = _prepare_splits(find_source(config.use).prepare(config, base), config, base)
    introduced = introduce(
        facts,
        lambda which: sample_reader(facts, which, config, base),
        lambda which: held_inputs(facts, which, config, base),
    )
    return with_decoded_images(introduced, config, base, say, build=build_cache)


def _prepare_splits(facts: DatasetInfo, config: DataConfig, base: Path) -> DatasetInfo:
    if config.collate is not None and facts.kind != "user":
        raise UsageError(f"data.collate: {config.use} has a collation of its own", "leave it out")
    if config.pad is not None and facts.kind != "user":
        raise UsageError(f"data.pad: the samples of {config.use} are of one shape", "leave it out")
    check_augment(config.augment, facts, base)
    if config.fold is not None and config.val_size is not None:
        raise UsageError("data.fold: data.val_size says what is validated on, too", "leave out one of them")
    if config.val_size is None and config.fold is None:
        return facts
    if config.val_size == 0:
        return _without_validation(facts)
    if facts.val is not None and facts.kind != "arrays":
        asked = "data.fold: a part" if config.fold else f"data.val_size: {config.val_size}"
        raise UsageError(
            f"{asked} to be split off, but {config.use} has validation data of its own",
            "leave out one of them",
        )
    return _split(_without_validation(facts), *_held_out(facts.train.length, config), config, base)


def _held_out(n: int, config: DataConfig) -> tuple[int, int]:
    """Return which places of the fixed permutation are validated on, as [begin, end).

    Raises:
        UsageError: nothing would be left to train on, or to validate on.
    """
    fold, size = config.fold, config.val_size or 0
    if fold is None:
        if size >= n:
            raise UsageError(
                f"data.val_size: {size} of {n} training samples leaves none to train on",
                f"choose less than {n}",
            )
        return 0, size
    if fold.k > n:
        raise UsageError(f"data.fold.k: {fold.k} parts of {n} samples", f"choose at most {n}")
    return shard(0, n, fold.index, fold.k)


def _without_validation(facts: DatasetInfo) -> DatasetInfo:
    """Make the validation set of a built-in data set its test set: training is not to see it."""
    if facts.val is None or facts.kind != "arrays":
        return replace(facts, val=None)
    return replace(facts, val=None, others={"test": facts.val, **facts.others})


def main() -> int:
    """Read ``{"data": ..., "base": ...}`` from stdin and write one JSON document to stdout.

    Returns:
        The exit status; the document is ``{"facts": ...}`` for 0, else ``{"error": ...}``. Lines before it are
        ``{"progress": [what is done, how far it is]}``.
    """
    die_with_parent()
    with os.fdopen(_reserve_stdout(), "w", encoding="utf-8") as file:

        def say(what: str, far: str) -> None:
            file.write(f"{json.dumps({'progress': [what, far]})}\n")
            file.flush()

        document, status = _handle_request(sys.stdin.read(), say)
        json.dump(document, file)
    return status


def _reserve_stdout() -> int:
    """Keep the real stdout for the response; whatever else is printed goes to stderr."""
    sys.stdout.flush()
    response = os.dup(1)
    os.dup2(2, 1)
    return response


def _handle_request(request: str, say: Callable[[str, str], None]) -> tuple[dict[str, Any], int]:
    try:
        document = json.loads(request)
        config, base = DataConfig.model_validate(document["data"]), Path(document["base"])
        facts = prepare(config, base, say, build_cache=document.get("build_cache", False))
    except LockstepError as error:
        return {"error": error.to_json()}, error.exit_status
    except Exception as error:  # noqa: BLE001 - the parent has nothing but this document to show
        unexpected = raised("preparing the data raised", error)
        return {"error": unexpected.to_json()}, unexpected.exit_status
    return {"facts": facts.to_json()}, 0


def _split(facts: DatasetInfo, begin: int, end: int, config: DataConfig, base: Path) -> DatasetInfo:
    n = facts.train.length
    key = ("split", ALGORITHM, n, end) if not begin else ("fold", ALGORITHM, n, begin, end)
    entry = cached(entry_key(*key), lambda folder: _build_split(folder, n, begin, end))
    counted = facts.train.class_counts is not None
    targets = find_source(config.use).targets(facts, config, base) if counted else None
    return replace(
        facts,
        train=_subset_info(facts, entry, "train", targets),
        val=_subset_info(facts, entry, "val", targets),
        fingerprint=fingerprint(facts.fingerprint, entry.hashes),
    )


def _build_split(folder: Path, n: int, begin: int, end: int) -> dict[str, Any]:
    order = permute(np.arange(n, dtype=np.int64), n, _SPLIT_KEY)
    save_array(folder / "val.npy", np.sort(order[begin:end]))
    save_array(folder / "train.npy", np.sort(np.delete(order, slice(begin, end))))
    return {}


def _subset_info(facts: DatasetInfo, entry: CacheEntry, which: str, targets: Array | None) -> SplitInfo:
    path = entry.folder / f"{which}.npy"
    rows = load_array(path)
    counts = None if targets is None else class_counts(targets[rows], facts.classes)
    return replace(facts.train, length=len(rows), subset=str(path), class_counts=counts)


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # a thread that user code left behind must not keep the launcher waiting
