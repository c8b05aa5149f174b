"""The documents of a data set, and the tokens of each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache import fingerprint
from ..common import LockstepError, TrainingError, UsageError, load_callable, raised_at_its_line
from ..config import PackConfig
from ..samples import SampleSource, describe_value, read_sample
from ..sources import ArraySplit, MapSplit

_ROWS = 1024
"""Rows of shards that are read at once."""
_PROBED = 16
"""Documents whose tokens tell whether a tokenizer is still what it was."""
_MOST_TOKEN = 2**32
_NAME = "name it: data.pack.text=NAME"


def raw_documents(split: ArraySplit | MapSplit, text: str | None) -> Iterator[Any]:
    """Yield the documents of a split in their order, as they are.

    Raises:
        TrainingError: a sample has no document of that name, or several.
    """
    if isinstance(split, ArraySplit):
        raise UsageError(
            "data.pack: the samples are pairs of tensors of one length already",
            "return documents: a list of texts, or of lists of numbers",
        )
    rows = split.dataset
    source = split.source or SampleSource()
    if split.many is not None and not split.many.samples:  # files of rows: their columns are read as they are
        yield from _of_columns(rows, text)
        return
    for number in range(len(rows)):
        yield _entry(read_sample(rows, number, source), text, number)


def _of_columns(rows: Any, text: str | None) -> Iterator[Any]:
    for begin in range(0, len(rows), _ROWS):
        columns = rows.values(np.arange(begin, min(begin + _ROWS, len(rows)), dtype=np.int64))
        yield from columns[_name_of(columns, text, begin)]


def _entry(sample: Any, text: str | None, number: int) -> Any:
    if isinstance(sample, Mapping):
        return sample[_name_of(sample, text, number)]
    if text is not None:
        raise UsageError(
            f"data.pack.text: sample {number:,} is {describe_value(sample)}, not a dict", "leave it out"
        )
    return sample


def _name_of(sample: Mapping[str, Any], text: str | None, number: int) -> str:
    names = list(sample)
    if text is None and len(names) == 1:
        return names[0]
    if text is None:
        raise UsageError(f"data.pack: which of {', '.join(map(str, names))} is the document?", _NAME)
    if text not in sample:
        raise UsageError(
            f"data.pack.text: sample {number:,} has no {text!r}, but {', '.join(map(str, names))}", _NAME
        )
    return text


class Tokenizer:
    """Makes tokens of documents.

    Args:
        pack: names a user's function; without one, documents are numbers.
        base: the folder of the config file.
    """

    def __init__(self, pack: PackConfig, base: Path) -> None:
        self._name = pack.tokenizer
        self._own: Callable[[Any], Any] | None = None
        self._file = b""
        if pack.tokenizer is not None:
            self._own = load_callable(pack.tokenizer, base)
            source = base / pack.tokenizer.rpartition(":")[0]
            self._file = source.read_bytes() if source.is_file() else b""

    def tokens(self, document: Any, number: int) -> NDArray[np.uint32]:
        """Make tokens of a document.

        Raises:
            TrainingError: it is none, or the tokenizer raised.
        """
        found = document if self._own is None else self._tokenized(self._own, document, number)
        found = getattr(found, "ids", found)
        if isinstance(found, Mapping) and "input_ids" in found:
            found = found["input_ids"]
        if isinstance(found, str | bytes):
            raise TrainingError(
                f"document {number:,} is {describe_value(found)}",
                "name what makes a list of numbers of a text: data.pack.tokenizer=./file.py:name",
            )
        return _checked(found, number)

    def _tokenized(self, own: Callable[[Any], Any], document: Any, number: int) -> Any:
        try:
            return own(document)
        except LockstepError:
            raise
        except (Exception, SystemExit) as error:
            what = f"data.pack.tokenizer, given document {number:,}, raised {type(error).__name__}: {error}"
            raise raised_at_its_line(what, error) from error

    def fingerprint(self, documents: Iterator[Any]) -> str:
        """Hash what the tokenizer is: its name, its file, and what it makes of the first documents."""
        made = [self.tokens(one, number).tolist() for number, one in enumerate(islice(documents, _PROBED))]
        return fingerprint(self._name, hashlib.sha256(self._file).hexdigest(), made)


def _checked(found: Any, number: int) -> NDArray[np.uint32]:
    try:
        tokens = np.asarray(found)
    except (ValueError, TypeError, RuntimeError):
        tokens = np.empty((), object)
    if tokens.size == 0 and tokens.ndim == 1:
        return np.empty(0, np.uint32)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise TrainingError(
            f"document {number:,} is {describe_value(found)}, not a list of whole numbers",
            "let the tokenizer return the numbers of the tokens",
        )
    if int(tokens.min()) < 0 or int(tokens.max()) >= _MOST_TOKEN:
        raise TrainingError(
            f"document {number:,} has a token {int(tokens.min())}, which is below 0"
            if int(tokens.min()) < 0
            else f"document {number:,} has a token {int(tokens.max())}, which is above 2^32",
            "let the tokenizer return the numbers of the tokens",
        )
    return tokens.astype(np.uint32)


def contents_hash(documents: Iterator[Any]) -> str:
    """Hash documents, all of them."""
    digest = hashlib.sha256()
    for document in documents:
        value = _bytes(document)
        digest.update(len(value).to_bytes(8, "little"))
        digest.update(value)
    return digest.hexdigest()


def _bytes(document: Any) -> bytes:
    if isinstance(document, str):
        return b"s" + document.encode("utf-8", "surrogatepass")
    if isinstance(document, bytes):
        return b"b" + document
    try:
        values = np.asarray(document)
    except (ValueError, TypeError, RuntimeError):
        values = np.empty((), object)
    if values.dtype == object:
        return b"o" + repr(document).encode()
    return f"{values.dtype}{values.shape}".encode() + values.tobytes()
