"""The ``data.pack:`` section. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .config_section import ConfigSection, MeasuredIn


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
