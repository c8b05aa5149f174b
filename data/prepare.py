"""Prepares a data set before the ranks start, in a short-lived child process: the ranks only open files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .common import LockstepError, UsageError, die_with_parent, raised
from .config import DataConfig, DatasetInfo
from .loading import check_augment
from .sets import (
    add_sampling,
    held_inputs,
    hold_out,
    sample_reader,
    source_of,
    with_decoded_images,
    with_shared_data,
)
from .sharing import watching
from .survey import introduce


def prepare(
    config: DataConfig,
    base: Path,
    report: Callable[[str, str], None] = lambda *_: None,
    *,
    build_cache: bool = False,
) -> DatasetInfo:
    """Prepare all that the ranks need of a data set: downloaded, checked, cached and split.

    Args:
        config: the ``data`` section.
        base: the folder of the config file, absolute.
        report: called with what takes long, and how far it is.
        build_cache: decode images into the cache, and keep there what a user's function returns; else what is there is
            used.

    Raises:
        UsageError: the section is wrong.
        MachineError: the data is not there and cannot be had, or the cache cannot be written.
        DamagedError: the data is damaged.
        TrainingError: the user's own callable raised, or broke its contract.
    """
    shares = build_cache and config.share != "off" and config.pack is None
    with watching(shares):
        facts = source_of(config).prepare(config, base)
    if shares:
        facts = with_shared_data(facts, config, base)
    facts = _prepare_splits(facts, config, base)
    introduced = introduce(
        facts,
        lambda which: sample_reader(facts, which, config, base),
        lambda which: held_inputs(facts, which, config, base),
        skip=config.on_bad == "skip",
    )
    return with_decoded_images(introduced, config, base, report, build=build_cache)


def _prepare_splits(facts: DatasetInfo, config: DataConfig, base: Path) -> DatasetInfo:
    if config.collate is not None and facts.kind != "user":
        raise UsageError(f"data.collate: {config.use} has a collation of its own", "leave it out")
    if config.pad is not None and facts.kind != "user":
        raise UsageError(f"data.pad: the samples of {config.use} are of one shape", "leave it out")
    if config.on_bad == "skip" and _has_shards(facts):
        raise UsageError(
            "data.on_bad: skip: shards are read in groups of rows, none of which can be skipped",
            "leave it out",
        )
    check_augment(config.augment, facts, base)
    source = source_of(config)
    return add_sampling(hold_out(facts, config, base, source), config, base, source, facts.train.length)


def _has_shards(facts: DatasetInfo) -> bool:
    return facts.kind == "shards" or any(part.kind == "shards" for part in facts.parts.values())


def main() -> int:
    """Answer the question that stdin holds, to stdout; return the exit status."""
    die_with_parent()
    return answer_question(sys.stdin.read(), _reserve_stdout())


def answer_question(question: str, descriptor: int) -> int:
    """Prepare what ``{"data": ..., "base": ...}`` says and write one JSON document to a descriptor, which is closed.

    Returns:
        The exit status; the document is ``{"facts": ...}`` for 0, else ``{"error": ...}``. Lines before it are
        ``{"progress": [what is done, how far it is]}``.
    """
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:

        def report(what: str, far: str) -> None:
            file.write(f"{json.dumps({'progress': [what, far]})}\n")
            file.flush()

        document, status = _handle_request(question, report)
        json.dump(document, file)
    return status


def _reserve_stdout() -> int:
    """Keep the real stdout for the response; whatever else is printed goes to stderr."""
    sys.stdout.flush()
    response = os.dup(1)
    os.dup2(2, 1)
    return response


def _handle_request(request: str, report: Callable[[str, str], None]) -> tuple[dict[str, Any], int]:
    try:
        document = json.loads(request)
        config, base = DataConfig.model_validate(document["data"]), Path(document["base"])
        facts = prepare(config, base, report, build_cache=document.get("build_cache", False))
    except LockstepError as error:
        return {"error": error.to_json()}, error.exit_status
    except Exception as error:  # noqa: BLE001 - the parent has nothing but this document to show
        unexpected = raised("preparing the data raised", error)
        return {"error": unexpected.to_json()}, unexpected.exit_status
    return {"facts": facts.to_json()}, 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # a thread that user code left behind must not keep the launcher waiting
