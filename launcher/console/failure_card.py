"""The failure card: how an error is shown at the end of a command."""

from __future__ import annotations

from ...data.common import LockstepError
from .console import ERROR, HINT, print_card


def print_failure_card(error: LockstepError) -> None:
    """Print what happened and where, then what to do about it."""
    print_card(card_lines(error))


def card_lines(error: LockstepError) -> list[str]:
    """Lay the card out: ``error:`` and the message, its further lines indented, then ``hint:``."""
    first, *more = error.message.split("\n")
    hint = [f"{HINT} {error.hint}"] if error.hint else []
    return [f"{ERROR} {first}", *(f"  {line}" for line in more), *hint]


def last_card(lines: list[str]) -> list[str]:
    """Find the last card in a log; empty where there is none."""
    starts = [number for number, line in enumerate(lines) if line.startswith(f"{ERROR} ")]
    return lines[starts[-1] :] if starts else []


def read_card(card: list[str]) -> tuple[str, str]:
    """Read the message and the hint back from a card's lines; both are empty for a card without lines."""
    hint = next((line.removeprefix(f"{HINT} ") for line in card if line.startswith(f"{HINT} ")), "")
    first, *more = [line for line in card if not line.startswith(f"{HINT} ")] or [""]
    message = [first.removeprefix(f"{ERROR} "), *(line[2:] for line in more if line.startswith("  "))]
    return "\n".join(message), hint
