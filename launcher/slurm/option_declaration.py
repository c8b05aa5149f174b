"""How an option of a SLURM job is declared: once, beside its type, in ``options.py``.

From the declaration follow its key in the ``slurm:`` section, its option on the command line, sbatch's argument, the
options that ``sbatch:`` refuses, its default, and its row in the table of ``slurm/README.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

_ENTRY = "slurm_option"


@dataclass(frozen=True)
class SlurmOption:
    """An option of a SLURM job, apart from its type."""

    metavar: str
    """What stands for the value in the help: ``N``. Empty: the choices of its type."""
    help: str
    """One short sentence."""
    flag: str | None
    """Its name on the command line, without dashes; None where it is not on the command line."""
    sbatch: str = ""
    """sbatch's option of the same meaning, which ``sbatch:`` therefore refuses; empty if sbatch has none."""
    is_passed_as_is: bool = True
    """Whether sbatch gets the value as it stands; else ``sbatch_arguments`` or the job itself makes use of it."""
    default: Any = None
    """The value where no source gives one; None leaves it to the site or to the launcher."""
    notes: str = ""
    """What only the documentation adds to ``help``."""


def slurm_option(
    metavar: str,
    help: str,  # noqa: A002 - the word of typer and of argparse
    *,
    flag: str | None = "",
    sbatch: str = "",
    is_passed_as_is: bool = True,
    default: Any = None,
    notes: str = "",
) -> Any:
    """Declare a field of the ``slurm:`` section, which is None while it is unset.

    The arguments are those of ``SlurmOption``, except that an empty ``flag`` stands for the key's own name.
    """
    option = SlurmOption(metavar, help, flag, sbatch, is_passed_as_is and bool(sbatch), default, notes)
    extra: dict[str, Any] = {_ENTRY: asdict(option)}
    return Field(default=None, description=help, json_schema_extra=extra)


def declared_options(section: type[BaseModel]) -> dict[str, SlurmOption]:
    """Return every option of a section by its key, in the order of their declarations."""
    return {key: _option(key, field) for key, field in section.model_fields.items()}


def _option(key: str, field: FieldInfo) -> SlurmOption:
    extra = field.json_schema_extra
    if not isinstance(extra, Mapping) or _ENTRY not in extra:
        raise TypeError(f"{key}: declare it with slurm_option")
    option = SlurmOption(**extra[_ENTRY])  # type: ignore[arg-type]
    choices = "|".join(choices_of(field.annotation))
    flag = key.replace("_", "-") if option.flag == "" else option.flag
    return replace(option, metavar=option.metavar or choices, flag=flag)


def choices_of(annotation: Any) -> tuple[str, ...]:
    """Return the texts that an option may be; empty where it is not one of a few."""
    literals = (kind for kind in get_args(annotation) if get_origin(kind) is Literal)
    return next((get_args(kind) for kind in literals), ())


def command_line_type(annotation: Any) -> Any:
    """Return what the command line reads for a field of this type: a number, text, or text that may be repeated."""
    kind = next(kind for kind in get_args(annotation) if kind is not NoneType)
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if isinstance(kind, type) and issubclass(kind, int | float):
        return kind
    return list[str] if get_origin(kind) in (tuple, dict) else str
