"""Events of a training's record that are a line, or a table, for the user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_NAMED = 5  # parameters in a note


def note_line(note: str) -> str:
    """Put ``note:`` in front of a note, unless it is a warning and says so."""
    return note if note.startswith("warning: ") else f"note: {note}"


def start_notes(event: dict[str, Any]) -> list[str]:
    """Return what the user should know before the first step."""
    lines = [note_line(note) for note in event.get("notes", ())]
    if event.get("depends_on_world"):
        what = " and ".join(event["depends_on_world"])
        lines.append(f"note: the model has {what}: its results depend on the number of processes")
    if event.get("unused_parameters"):
        unused = event["unused_parameters"]
        reached = f"note: in the first samples the loss does not reach {len(unused)} parameters"
        lines.append(f"{reached}: {', '.join(unused[:_NAMED])}")
    return lines


def event_lines(event: dict[str, Any]) -> list[str]:
    """Return the messages about an event, whatever its kind; none about most."""
    kind = event["event"]
    if kind == "start":
        return start_notes(event)
    if kind == "profile":
        return profile_rows(event)
    if kind == "checkpoint_failed":
        return [
            f"warning: {event['message']}; the run fails only if its last checkpoint cannot be written, either"
        ]
    return [f"note: {_NOTES[kind](event)}"] if kind in _NOTES else []


def _early_stop_note(event: dict[str, Any]) -> str:
    """Say why a run has ended early; a metric may never have been a number."""
    epochs = f"{event['stalled']} {event.get('unit', 'epoch')}{'s' * (event['stalled'] != 1)}"
    if event["best"] is None:
        return f"ended early: {event['monitor']} has not been a number for {epochs}"
    return f"ended early: {event['monitor']} has not improved for {epochs}; best {event['best']:.6g}"


def _unreached_note(event: dict[str, Any]) -> str:
    """Say which parameters were left out by how many steps of an epoch."""
    missed, steps = event["missed"], event["steps"]
    shown = ", ".join(f"{name} in {count:,}" for name, count in [*missed.items()][:_NAMED])
    more = f" and {len(missed) - _NAMED} more" if len(missed) > _NAMED else ""
    what = f"of the {steps:,} steps of epoch {event['epoch'] + 1} the loss does not reach {shown}{more}"
    return f"{what}; such a step leaves them as they are (train.unused)"


def _straggler_note(event: dict[str, Any]) -> str:
    lag, share = event["lag_milliseconds"], event["share"]
    what = f"rank {event['rank']} is slower than the others, which wait {lag:.2f} ms a step for it"
    return f"{what}: {share:.0%} of {event['steps']} steps' time"


def _world_note(event: dict[str, Any]) -> str:
    """Say how many processes a run has from now on."""
    now, before = event["processes"], event["before"]
    one = "process" if now == 1 else "processes"
    died = [str(number) for number in event.get("died") or ()]
    who = f"process {died[0]} has" if len(died) == 1 else f"processes {' and '.join(died)} have"
    why = f"{who} died: " if died else ""
    return (
        f"{why}{now} {one} instead of {before} from step {event['step']:,};"
        f" the change took {event['seconds']:.2f} s"
    )


_NOTES: dict[str, Callable[[dict[str, Any]], str]] = {
    "early_stop": _early_stop_note,
    "unreached": _unreached_note,
    "straggler": _straggler_note,
    "world": _world_note,
    "note": lambda event: str(event["message"]),
}
"""Events that are a line for the user."""


_PHASE_TITLES = {"data": "waiting for data", "other": "idle or other"}


def profile_rows(event: dict[str, Any]) -> list[str]:
    """Return a profile as a table: where the time of its steps goes, on the average of the ranks."""
    mean, count = event["milliseconds"], len(event["ranks"])
    whole = sum(mean.values()) or 1.0
    rows = [f"steps {event['first']:,} to {event['last']:,}     ms a step        share"]
    rows += [
        f"{_PHASE_TITLES.get(name, name):<20}  {value:>12.3f}  {value / whole:>11.1%}"
        for name, value in mean.items()
    ]
    if count > 1:
        rows.append(
            f"slowest: rank {event['slowest_rank']}, {event['lag_milliseconds']:.3f} ms behind the fastest"
        )
    return [
        *rows,
        "the trace of each rank is in profile/ of the run's folder; Perfetto and chrome://tracing show it",
    ]
