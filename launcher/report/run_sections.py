"""The sections of a run's page: how it ended, its settings, epochs, matrix, worst samples, attempts, environment."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...data.common import LockstepError
from ...training.tracking import RunRecord
from ..process import ask_child
from ..runs import Status, attempts, read_json
from . import html_page as html

_CLASSES, _EPOCHS = 30, 200  # that a table of a page holds
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_SETTING = re.compile(
    rf"^(?P<indent> *)(?P<key>(?:{_QUOTED}|[^\":#])+):(?: (?P<value>(?:{_QUOTED}|[^\"])*?))?(?:\s+# (?P<origin>.*))?$"
)
_LOG_END = 2000  # characters of an error


def head(status: Status, record: RunRecord) -> str:
    """Return the title, the state of the run, and its newest numbers."""
    error = status.outcome.get("error") or {}
    plan = status.plan
    of = f" of {plan['steps']:,}" if plan else ""
    good = "good" if status.status == "done" else "bad" if status.status == "failed" else "soft"
    said = [f'<h1>{html.text(record.name)}</h1><p><span class="{good}">{html.text(status.status)}</span>']
    said.append(f'<span class="soft"> · {status.step:,}{of} steps, {status.epoch:,} epochs</span></p>')
    if error.get("message"):
        said.append(f"<pre>{html.text(str(error['message'])[:_LOG_END])}</pre>")
    metrics = [(key, value) for key, value in status.metrics.items() if not key.endswith("/count")]
    return "".join(said) + html.tiles(metrics)


def settings(folder: Path) -> str:
    """Return every setting with where it came from; defaults are folded away."""
    rows = list(setting_rows(_text(folder / "config.yaml")))
    chosen = [row for row in rows if row[2] != "default"]
    defaults = [row[:2] for row in rows if row[2] == "default"]
    folded = html.table(("setting", "value"), defaults, "settings")
    more = f"<details><summary>{len(defaults)} defaults</summary>{folded}</details>" if defaults else ""
    return html.section("Settings", html.table(("setting", "value", "from"), chosen, "settings"), more)


def _text(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    return ""


def setting_rows(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield key, value and origin of the lines of a run's ``config.yaml`` that have an origin."""
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = _SETTING.match(line)
        if found is None or line.lstrip().startswith("#"):
            continue
        indent = len(found["indent"])
        path = [(depth, key) for depth, key in path if depth < indent] + [(indent, found["key"].strip())]
        if found["origin"]:
            yield ".".join(key for _, key in path), (found["value"] or "").strip(), found["origin"]


def epochs(record: RunRecord) -> str:
    """Return the metrics of the newest epochs."""
    rows = record.epochs[-_EPOCHS:]
    hidden = ("time", "event", "epoch", "epoch_number", "val/count", "memory_peak_mb")
    keys = list(dict.fromkeys(key for row in rows for key in row if key not in hidden))
    keys = ["step", *(key for key in keys if key != "step")]
    left_out = len(record.epochs) - len(rows)
    note = f'<p class="soft">{left_out:,} earlier epochs are left out</p>' if left_out else ""
    shown = [(row["epoch"] + 1, *(row.get(key) for key in keys)) for row in rows]
    return html.section("Epochs", note, html.table(("epoch", *keys), shown))


def evaluation(folder: Path, spec: Mapping[str, Any]) -> str:
    """Return confusion matrix and worst samples of the last evaluation, where the run has kept them."""
    kept = read_json(folder / "evaluation.json")
    facts = spec.get("data") or {}
    found = ""
    for split, view in (kept.get("splits") or {}).items():
        cells = view.get("confusion_matrix")
        if cells and len(cells) <= _CLASSES:
            names = facts.get("class_names") or [str(label) for label in range(len(cells))]
            found += html.section(f"Confusion matrix: {split}", html.matrix(cells, names))
        elif cells:
            found += html.section(
                f"Confusion matrix: {split}", f"<p>{len(cells)} classes: in evaluation.json</p>"
            )
        found += _worst(spec, split, view.get("worst") or [], facts.get("class_names") or [])
    return found


def _worst(spec: Mapping[str, Any], split: str, worst: list[dict[str, Any]], names: list[str]) -> str:
    if not worst:
        return ""
    question = _question(spec, split, [sample["index"] for sample in worst])
    try:
        answer = ask_child("lockstep.data.sample_pictures", question, "pictures")
    except LockstepError as error:
        answer = {"problem": error.message}
    found = answer.get("pictures") or [None] * len(worst)
    labels = answer.get("labels") or [""] * len(worst)
    cards = []
    for sample, uri, label in zip(worst, found, labels, strict=True):
        loss = f"loss {html.number(sample['loss'])}"
        known = [f"true: {label}"] if label else []
        if (guess := sample.get("predicted")) is not None:
            known.append(f"predicted: {names[guess] if guess < len(names) else guess}")
        cards.append((uri, [*known, loss, f"sample {sample['index']}"]))
    why = answer.get("problem")
    note = f'<p class="soft">no pictures: {html.text(str(why).splitlines()[0])}</p>' if why else ""
    return html.section(f"Largest losses: {split}", note, html.pictures(cards))


def _question(spec: Mapping[str, Any], split: str, indices: list[int]) -> dict[str, Any]:
    return {
        "data": spec["config"]["data"],
        "base": spec["base"],
        "facts": spec["data"],
        "seed": spec["config"]["train"]["seed"],
        "split": split,
        "indices": indices,
    }


def timeline(folder: Path, record: RunRecord, status: Status) -> str:
    """Return when attempts began, what failed in them, and how the run ended."""
    rows: list[tuple[float, str, str]] = []
    for start in record.starts:
        where = f"resumed from step {start['step']:,}" if start.get("step") else "started"
        rows.append((start.get("time", 0), where, _processes(start.get("world_size"))))
    for attempt in attempts(folder):
        for path in sorted((folder / f"attempt-{attempt}").glob("error-*.json")):
            error = read_json(path)
            message = str(error.get("message", "")).strip() or "it left no message"
            rank = path.stem.removeprefix("error-")
            rows.append((_changed(path), f"attempt {attempt}: rank {rank} failed", message[:_LOG_END]))
    for event in record.told:
        if event["event"] in ("note", "early_stop", "straggler", "unreached", "diverged", "diverged_rank"):
            rest = {key: value for key, value in event.items() if key not in ("time", "event")}
            rows.append(
                (event.get("time", 0), event["event"].replace("_", " "), str(rest.get("message", rest)))
            )
    if status.outcome:
        error = (status.outcome.get("error") or {}).get("message", "")
        rows.append((_changed(folder / "outcome.json"), status.status, str(error)[:_LOG_END]))
    shown = [(_clock(moment), what, more) for moment, what, more in sorted(rows, key=lambda row: row[0])]
    return html.section("Attempts and failures", html.table(("time", "what", ""), shown))


def _processes(count: Any) -> str:
    return "1 process" if count == 1 else f"{count} processes" if count else ""


def _changed(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)) if moment else ""


def environment(folder: Path) -> str:
    """Return versions, machine and code."""
    manifest = read_json(folder / "manifest.json")
    rows = [(key, str(manifest[key])) for key in ("created", "lockstep", "python") if manifest.get(key)]
    for part in ("versions", "hardware", "git", "data"):
        found = manifest.get(part)
        rows += (
            [(f"{part}.{key}", str(value)) for key, value in found.items()] if isinstance(found, dict) else []
        )
    return html.section("Environment", html.table(("", "value"), rows, "settings"))
