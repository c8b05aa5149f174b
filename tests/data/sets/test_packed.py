"""Documents of any source, packed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lockstep.data.common.errors import LockstepError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.loading.feed import Work
from lockstep.data.loading.feed_choice import open_feed
from lockstep.data.loading.normalise import Normalisation
from lockstep.data.packing.token_files import document_order
from lockstep.data.prepare import prepare
from lockstep.data.samples.digest import _rows_between
from lockstep.data.sets.source_list import open_split
from lockstep.data.sources import user_dataset

CODE = """
import pathlib
from collections.abc import Iterable
TEXTS = [f"document {number}." for number in range(20)]

def encode(text):
    calls = pathlib.Path(__file__).with_name("calls")
    calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
    return list(text.encode())

def breaks(text):
    return 1 / 0 if "7" in text else [1]

def shifted(text):
    return [byte + int(pathlib.Path(__file__).with_name("shift").read_text()) for byte in text.encode()]

def numbers(kind):
    return {
        "lists": [[1, 2, 3], [], [4, 5, 6, 7]],
        "negative": [[1], [2, -3]],
        "fractions": [[1], [0.5]],
        "texts": ["a", "b"],
        "nested": [[1], [[2]]],
        "huge": [[1], [2**32]],
    }

def data(kind="lists"): return {"train": numbers(kind)[kind], "val": [[1, 2, 3, 4, 5], [6, 7, 8, 9]]}
def texts(): return {"train": TEXTS, "val": TEXTS[:5]}
def dicts(): return {"train": [{"text": text, "id": at} for at, text in enumerate(TEXTS)]}
def tensors():
    import torch
    return {"train": (torch.zeros(4, 3), torch.zeros(4))}
class Part:
    def __init__(self, texts): self.texts = texts
    def __len__(self): return len(self.texts)
    def __iter__(self): return iter(self.texts)
def weighted(): return {"train": TEXTS, "weights": [1.0] * 20}
def padded(): return {"train": TEXTS, "pad": 9}
def parts(): return {"train": [Part(TEXTS[:7]), Part(TEXTS[7:])]}
"""
TEXTS = [f"document {number}." for number in range(20)]
PLAIN = Normalisation(torch.float32, None, None)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(CODE)
    user_dataset._called.clear()
    return tmp_path


def config(use: str, args: dict[str, Any] | None = None, **pack: Any) -> DataConfig:
    pack = {"length": 8, **pack}
    return DataConfig.model_validate({"use": use, "args": args or {}, "pack": pack, "batch_size": 4})


def tokens_of(base: Path, asked: DataConfig, which: str = "train") -> list[int]:
    facts = prepare(asked, base)
    assert DatasetInfo.from_json(json.loads(json.dumps(facts.to_json()))) == facts
    split = open_split(facts, which, asked, base)
    feed = open_feed(split, PLAIN, torch.device("cpu"), workers=0, classes=None, seed=0)
    (one,) = feed.fetch(iter([Work(np.arange(len(split)), [len(split)])]))
    ((x, y),) = one.micro
    assert x.dtype == y.dtype == torch.int64
    assert x.flatten()[1:].tolist() == y.flatten()[:-1].tolist()
    return [*x.flatten().tolist(), int(y[-1, -1])]


def expected(end: int | None = None) -> list[int]:
    order = document_order(len(TEXTS), shuffled=True).tolist()
    whole = [byte for at in order for byte in [*TEXTS[at].encode(), *([] if end is None else [end])]]
    return whole[: (len(whole) - 1) // 8 * 8 + 1]


def write_lines(base: Path) -> dict[str, Any]:
    lines = [json.dumps({"text": text, "id": at}) + "\n" for at, text in enumerate(TEXTS)]
    for name, part in (("a", lines[:11]), ("b", lines[11:])):
        (base / f"{name}.jsonl").write_text("".join(part))
    return {"files": "*.jsonl"}


def test_documents_of_any_source_become_the_same_samples(base: Path) -> None:
    encode = {"tokenizer": "./mine.py:encode", "end": 0}
    assert tokens_of(base, config("./mine.py:texts", **encode)) == expected(0)
    assert tokens_of(base, config("./mine.py:dicts", text="text", **encode)) == expected(0)
    assert tokens_of(base, config("./mine.py:parts", **encode)) == expected(0)
    assert tokens_of(base, config("shards", write_lines(base), text="text", **encode)) == expected(0)


def test_documents_that_are_numbers_in_their_own_order(base: Path) -> None:
    asked = config("./mine.py:data", length=3, order="as_is")
    assert tokens_of(base, asked) == [1, 2, 3, 4, 5, 6, 7]
    assert tokens_of(base, asked, "val") == [1, 2, 3, 4, 5, 6, 7]


def test_dicts_whose_target_is_an_entry_and_epochs_of_another_length(base: Path) -> None:
    plain = config("./mine.py:data", length=3, order="as_is", sample="dict", separate=True)
    asked = plain.model_copy(update={"samples": "any", "target": "labels", "epoch_size": 5})
    facts = prepare(asked, base)
    assert (facts.train.length, facts.epoch_size) == (2, 5)
    split = open_split(facts, "train", asked, base)
    feed = open_feed(split, PLAIN, torch.device("cpu"), workers=0, classes=None, seed=0)
    (one,) = feed.fetch(iter([Work(np.array([1, 0, 1]), [2, 1])]))
    (inputs, labels), _ = one.micro
    assert labels.tolist() == [[4, 5, 6], [1, 2, 3]]
    assert {name: values.tolist() for name, values in inputs.items()} == {
        "input_ids": [[4, 5, 6], [1, 2, 3]],
        "position_ids": [[0, 1, 2], [0, 1, 2]],
        "document_ids": [[0, 0, 0], [0, 0, 0]],
    }


def test_the_plan_says_what_became_of_the_documents(base: Path) -> None:
    facts = prepare(config("./mine.py:data", length=2), base)
    assert facts.notes == (
        "train: 3 documents of 7 tokens packed into 3 samples of 2",
        "val: 2 documents of 9 tokens packed into 4 samples of 2",
    )
    (note, _) = prepare(config("./mine.py:data", length=4, end=0), base).notes
    assert note == "train: 3 documents of 10 tokens packed into 2 samples of 4; 1 token at the end in none"
    assert (facts.train.length, facts.input_shape, facts.target_shape) == (3, (2,), (2,))


def test_tokens_are_made_once_until_documents_or_tokenizer_change(base: Path) -> None:
    asked = config("shards", write_lines(base), text="text", tokenizer="./mine.py:encode")

    def calls() -> int:
        return len((base / "calls").read_text())

    first = prepare(asked, base)
    made = calls()
    assert prepare(asked, base).fingerprint == first.fingerprint
    assert calls() - made == 16  # what tells whether the tokenizer is the same
    assert prepare(asked.model_copy(update={"pack": asked.pack.model_copy(update={"length": 9})}), base)
    assert calls() - made == 32
    text = (base / "b.jsonl").read_text().replace("document 19", "document ab")
    (base / "b.jsonl").write_text(text)
    assert prepare(asked, base).fingerprint != first.fingerprint
    assert calls() - made == 32 + 36


def test_a_document_of_a_users_own_that_changes_is_seen(base: Path) -> None:
    asked = config("./mine.py:texts", tokenizer="./mine.py:encode")
    first = prepare(asked, base).fingerprint
    user_dataset._called.clear()
    train = user_dataset.load_user_data(asked, base)[0]["train"]
    unseen = next(row for row in range(16, 19) if row not in _rows_between(20))
    train[unseen] = "document xx."
    assert prepare(asked, base).fingerprint != first


def test_a_tokenizer_that_makes_other_tokens_is_seen(base: Path) -> None:
    (base / "shift").write_text("1")
    asked = config("./mine.py:texts", tokenizer="./mine.py:shifted")
    first = prepare(asked, base).fingerprint
    (base / "shift").write_text("2")
    assert prepare(asked, base).fingerprint != first


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (config("./mine.py:data", {"kind": "negative"}), "document 1 has a token -3, which is below 0"),
        (
            config("./mine.py:data", {"kind": "huge"}),
            r"document 1 has a token 4294967296, which is above 2\^32",
        ),
        (config("./mine.py:data", {"kind": "fractions"}), "document 1 is a list of 1, not a list of whole"),
        (config("./mine.py:data", {"kind": "nested"}), "document 1 is a list of 1, not a list of whole"),
        (config("./mine.py:data", {"kind": "texts"}), "document 0 is the str 'a'"),
        (
            config("./mine.py:texts", tokenizer="./mine.py:breaks"),
            r"given document 7, raised ZeroDivision.*\nat .*py",
        ),
        (config("./mine.py:texts", tokenizer="./mine.py:none"), "has no 'none'"),
        (
            config("./mine.py:dicts", tokenizer="./mine.py:encode"),
            "data.pack: which of text, id is the document",
        ),
        (config("./mine.py:dicts", text="t"), "data.pack.text: sample 0 has no 't', but text, id"),
        (config("./mine.py:data", text="t"), "data.pack.text: sample 0 is a list of 3, not a dict"),
        (config("./mine.py:weighted", tokenizer="./mine.py:encode"), "mine.py:weighted returned 'weights'"),
        (config("./mine.py:padded", tokenizer="./mine.py:encode"), "mine.py:padded returned 'pad'"),
        (config("./mine.py:tensors"), "data.pack: the samples are pairs of tensors"),
        (
            config("./mine.py:data", length=7),
            "the 3 train documents have 7 tokens, fewer than one sample of 7 needs",
        ),
        (
            config("./mine.py:data", sample="dict"),
            "data.pack.sample: dict: nobody says what of it is the target",
        ),
    ],
)
def test_what_is_refused(base: Path, asked: DataConfig, words: str) -> None:
    with pytest.raises(LockstepError, match=words):
        prepare(asked, base)


@pytest.mark.parametrize(
    "more",
    [
        {"val_size": 2},
        {"fold": {"k": 2, "index": 0}},
        {"weights": "w"},
        {"balance": "classes"},
        {"group": "g"},
        {"stratify": True},
        {"collate": "./mine.py:data"},
        {"pad": {"to": 9}},
        {"scale_uint8": True},
        {"augment": {"flip": True}},
        {"on_bad": "skip"},
    ],
)
def test_settings_that_packed_samples_do_not_have(base: Path, more: dict[str, Any]) -> None:
    asked = DataConfig.model_validate({**config("./mine.py:data").model_dump(), **more})
    with pytest.raises(LockstepError, match=rf"data\.{next(iter(more))}: "):
        prepare(asked, base)


def test_several_sets_are_not_packed() -> None:
    with pytest.raises(ValueError, match="pack: the documents of several sets"):
        DataConfig.model_validate({"sets": {"a": {"use": "digits"}}, "pack": {"length": 3}})
