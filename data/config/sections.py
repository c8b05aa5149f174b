"""What all sections of a config have in common, and the sections for sequences. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True)
class MeasuredIn:
    """The unit of a setting's number, as ``Annotated[int, MeasuredIn("steps")]``; the reference shows it."""

    unit: str
    """A plural: ``seconds``."""


class ConfigSection(BaseModel):
    """A frozen part of a config; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class PadConfig(ConfigSection):
    """The ``data.pad:`` section: samples of different lengths become one batch."""

    to: Literal["longest"] | Annotated[int, Field(gt=0), MeasuredIn("elements")] = "longest"
    """The length to pad to: of the longest sample in the global batch, whichever process has it, or a fixed one."""
    multiple_of: Annotated[int, MeasuredIn("elements")] = Field(default=1, gt=0)
    """Rounds the longest up, so that there are fewer different shapes."""
    value: float = 0
    """What is put behind a sequence."""
    values: dict[str, float] = Field(default_factory=dict)
    """The same for parts of a sample by name, such as ``{labels: -100}`` or ``{target: -100}``."""
    mask: str | None = Field(default=None, min_length=1)
    """A key of samples that are dicts, to be added: true where a sequence is, false where it is padded."""


class PackConfig(ConfigSection):
    """The ``data.pack:`` section: documents become one sequence of tokens, which is cut into samples of one length."""

    length: Annotated[int, MeasuredIn("tokens")] = Field(gt=0)
    """Of each sample."""
    tokenizer: str | None = Field(default=None, min_length=1)
    """What makes a list of numbers of a document, ``package.module:callable`` or ``./file.py:callable``. Unset: the
    documents are lists of numbers."""
    text: str | None = Field(default=None, min_length=1)
    """The column or the entry of a sample that is the document; unset: the only one that there is."""
    end: Annotated[int, MeasuredIn("tokens")] | None = Field(default=None, ge=0)
    """A token that is put behind each document; unset is none."""
    order: Literal["shuffled", "as_is"] = "shuffled"
    """In which training documents follow each other; those of other splits always are as they come."""
    sample: Literal["pair", "dict"] = "pair"
    """``pair``: the tokens, and for each the one that follows it. ``dict``: ``input_ids`` and ``labels``, both the same
    tokens, for a model that shifts them itself."""
    separate: bool = False
    """Targets that belong to another document than the token before them become -100; a dict gets ``position_ids`` and
    ``document_ids``."""
