"""Which classes the labels of a CSV file are, and what about them may be a mistake."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from ..common import UsageError
from .csv_table import SEPARATORS, Table

_MAX_NOTED_NAMES = 5
_SEPARATOR_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_MISSING = frozenset((
    "na", "n/a", "nan", "-nan", "null", "none", "nil", "<na>", "#n/a", "#na", "inf", "-inf", "infinity", "-infinity",
))  # fmt: skip
"""Words that spreadsheets and programs write where there is no number."""
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+")
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")
_CLASSES_HINT = "if these are names of classes, list them in data.args.classes"


def class_names(table: Table) -> tuple[str, ...]:
    """List the labels of the training file, numbers in their order; 0, 1, 2 … without a gap are their own indices.

    Raises:
        UsageError: the labels are quantities.
        DamagedError: among numbers, some are missing.
    """
    names = set(table.labels) - {""}
    present = {name for name in names if name.casefold() not in _MISSING}
    numbers = {name: number for name in present if (number := _number(name)) is not None}
    broken = [name for name, number in numbers.items() if not number.is_integer()]
    if broken and 2 * len(broken) > len(present) - len(numbers) + len(broken):
        raise _quantities_error(table, min(broken))
    if len(numbers) < len(present) or not present:
        return tuple(sorted(names))
    if len(present) < len(names):
        raise _missing_error(table, names - present)
    return tuple(sorted(numbers, key=lambda name: (numbers[name], name)))


def _quantities_error(table: Table, example: str) -> UsageError:
    return UsageError(
        f"{table.file}: the labels are numbers such as {example}, which are quantities and no classes",
        f"for a regression set data.args.label_kind=numbers; {_CLASSES_HINT}",
    )


def _missing_error(table: Table, missing: set[str]) -> Exception:
    bad = [
        (row, f"the label {label!r} stands among numbers, as a missing value does")
        for row, label in enumerate(table.labels)
        if label in missing
    ]
    return table.bad_rows_error(bad, f"correct these rows, or remove them; {_CLASSES_HINT}")


def _number(label: str) -> float | None:
    """Read a number as programs and spreadsheets write it; None for what is none, infinite, or not exact as a float."""
    text = label.removesuffix("%")
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    elif _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    try:
        number = float(text)
    except ValueError:
        return None
    plain = label.isascii() and "_" not in label and abs(number) < 2**53  # neither nan nor inf, and exact
    return number if plain else None


def label_notes(table: Table, names: Sequence[str], *, given: bool) -> list[str]:
    """Say what was guessed about the separator and the labels, and what looks like a mistake.

    Args:
        table: of the training split.
        names: of the classes, by index.
        given: the user has listed them.
    """
    notes = []
    if table.separator != SEPARATORS[0]:
        named = _SEPARATOR_NAMES.get(table.separator, repr(table.separator))
        notes.append(f"{table.file.name} is separated by {named}")
    if not given:
        notes += _number_notes(names) + _missing_notes(table, names)
    return [*notes, *_near_notes(names), *_line_end_notes(table)]


def _number_notes(names: Sequence[str]) -> list[str]:
    are_numbers = all(_number(name) is not None for name in names)
    if not are_numbers or list(names) == [str(index) for index in range(len(names))]:
        return []
    listed = ", ".join(f"{name} is class {index}" for index, name in enumerate(names[:_MAX_NOTED_NAMES]))
    more = ", …" if len(names) > _MAX_NOTED_NAMES else ""
    return [f"the labels are not 0 to {len(names) - 1}, so they are names: {listed}{more}"]


def _missing_notes(table: Table, names: Sequence[str]) -> list[str]:
    missing = [name for name in names if name.casefold() in _MISSING]
    counts = Counter(label for label in table.labels if label in missing) if missing else {}
    return [
        f"the label {name} of {counts[name]:,} {'row' if counts[name] == 1 else 'rows'} is a class of its own,"
        " though it looks like a missing value"
        for name in missing
    ]


def _near_notes(names: Sequence[str]) -> list[str]:
    """Name classes that somebody may have meant to be one, each group once and by its least difference."""
    looks: tuple[tuple[str, Callable[[str], Hashable]], ...] = (
        ("differ in upper and lower case alone", str.casefold),
        ("are the same number", lambda name: name if _number(name) is None else _number(name)),
        ("are nearly equal", _near_key),
    )
    notes = []
    told: set[str] = set()
    for what, key in looks:
        groups = [group for group in _groups(names, key) if not told.issuperset(group)]
        if groups:
            near = sorted(name for group in groups for name in group)
            told.update(near)
            notes.append(f"classes {what}: {', '.join(near[:_MAX_NOTED_NAMES])}")
    return notes


def _groups(names: Iterable[str], key: Callable[[str], Hashable]) -> list[list[str]]:
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _near_key(name: str) -> Hashable:
    """Return the same for names that differ in blanks, hyphens, accents' encoding or what cannot be seen."""
    if (number := _number(name)) is not None:
        return number
    seen = "".join(
        c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) not in ("Cf", "Cc")
    )
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)|(?<=[^\W_])_(?=[^\W_])", "", seen.strip()).casefold()


def _line_end_notes(table: Table) -> list[str]:
    broken = {label for label in set(table.labels) if "\n" in label or "\r" in label}
    rows = [row for row, label in enumerate(table.labels) if label in broken] if broken else []
    if not rows:
        return []
    labels = "1 label holds" if len(rows) == 1 else f"{len(rows):,} labels hold"
    return [f"{labels} line ends, the first in line {table.line_of(rows[0])}: is a quote not closed?"]
