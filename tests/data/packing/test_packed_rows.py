from __future__ import annotations

import tracemalloc
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.data.config.sections import PackConfig
from lockstep.data.packing.packed_rows import PackedRows, packed_length
from lockstep.data.packing.token_files import document_order, store_tokens


def documents(case: int) -> list[list[int]]:
    drawn = np.random.default_rng(case)
    top = 70_000 if case % 2 else 50
    return [drawn.integers(0, top, int(drawn.integers(0, 9))).tolist() for _ in range(30 + case)]


def stored(folder: Path, texts: list[list[int]], end: int | None, *, shuffled: bool) -> dict[str, str]:
    arrays = (np.array(text, np.uint32) for text in texts)
    facts = store_tokens(folder, arrays, end, shuffled=shuffled)
    assert facts["documents"] == len(texts)
    return {"tokens": str(folder / "tokens.npy"), "ends": str(folder / "ends.npy")}


def by_hand(texts: list[list[int]], end: int | None, pack: PackConfig, *, shuffled: bool) -> list[Any]:
    """Cut samples from a list of (token, document, place in it)."""
    order = document_order(len(texts), shuffled=shuffled).tolist()
    whole = [
        (token, number) for number in order for token in [*texts[number], *([] if end is None else [end])]
    ]
    samples = []
    for begin in range(0, len(whole) - pack.length + (pack.sample == "dict"), pack.length):
        own = whole[begin : begin + pack.length]
        tokens = [token for token, _ in own]
        if pack.sample == "pair":
            after = whole[begin + 1 : begin + pack.length + 1]
            targets = [
                -100 if pack.separate and this != following else token
                for (_, this), (token, following) in zip(own, after, strict=True)
            ]
            samples.append((tokens, targets))
            continue
        first = [at > 0 and own[at - 1][1] != own[at][1] for at in range(pack.length)]
        labels = [-100 if pack.separate and new else token for token, new in zip(tokens, first, strict=True)]
        sample = {"input_ids": tokens, "labels": labels}
        if pack.separate:
            numbers = np.cumsum([0, *first[1:]]).tolist()
            sample |= {
                "document_ids": numbers,
                "position_ids": [at - numbers.index(number) for at, number in enumerate(numbers)],
            }
        samples.append(sample)
    return samples


def plain(sample: Any) -> Any:
    if isinstance(sample, dict):
        return {name: values.tolist() for name, values in sample.items()}
    return tuple(values.tolist() for values in sample)


@pytest.mark.parametrize("sample", ["pair", "dict"])
@pytest.mark.parametrize("separate", ["", "separate"])
@pytest.mark.parametrize("case", range(4))
def test_samples_are_those_cut_by_hand(tmp_path: Path, case: int, separate: str, sample: str) -> None:
    texts, end, shuffled = documents(case), 7 if case % 3 else None, case != 2
    pack = PackConfig(length=5, separate=bool(separate), sample=sample)
    rows = PackedRows(stored(tmp_path, texts, end, shuffled=shuffled), pack)
    expected = by_hand(texts, end, pack, shuffled=shuffled)
    assert [plain(rows[number]) for number in range(len(rows))] == expected
    chosen = np.random.default_rng(case).permutation(len(rows))
    batch = rows.read(chosen, 3, np.zeros_like(chosen))
    for at, row in enumerate(chosen.tolist()):
        one = {k: v[at] for k, v in batch.items()} if sample == "dict" else tuple(v[at] for v in batch)
        assert plain(one) == expected[row]


def test_documents_are_reordered_whole_and_each_once(tmp_path: Path) -> None:
    texts = [[number] * (1 + number % 4) for number in range(100)]
    files = stored(tmp_path, texts, None, shuffled=True)
    tokens = np.load(files["tokens"])
    order = [int(tokens[end - 1]) for end in np.load(files["ends"])]
    assert sorted(order) == list(range(100))
    assert order != list(range(100))
    assert tokens.tolist() == [token for number in order for token in texts[number]]


@pytest.mark.parametrize(("top", "width"), [(65_535, 2), (65_536, 4)])
def test_bytes_on_the_disk_are_2_or_4_for_each_token_and_8_for_each_document(
    tmp_path: Path, top: int, width: int
) -> None:
    stored(tmp_path, [[1, 2, top]] * 10_000, None, shuffled=True)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes.keys() == {"tokens.npy", "ends.npy"}
    assert sizes["tokens.npy"] - 30_000 * width < 256
    assert sizes["ends.npy"] - 10_000 * 8 < 256


def test_memory_while_tokens_are_written_is_32_bytes_for_each_document(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        store_tokens(tmp_path, repeat(np.arange(3, dtype=np.uint32), count), 0, shuffled=True)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    assert (peak(40_000) - peak(20_000)) / 20_000 < 36  # a list of numbers that grows has some to spare


def test_lengths() -> None:
    pair, whole = PackConfig(length=4), PackConfig(length=4, sample="dict")
    assert [packed_length(tokens, pair) for tokens in (0, 4, 5, 8, 9)] == [0, 0, 1, 1, 2]
    assert [packed_length(tokens, whole) for tokens in (0, 3, 4, 8, 9)] == [0, 0, 1, 2, 2]
