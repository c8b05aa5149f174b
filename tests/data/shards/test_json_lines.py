import json

import numpy as np
import pytest

from lockstep.data.shards import json_lines
from lockstep.data.shards.json_lines import JsonLines, count_lines
from lockstep.data.shards.shard_format import MISSING, BadRowError, ShardChangedError
from lockstep.data.storage.local_files import LocalFile


def every_row(path, columns=("n",)):
    scan = JsonLines().scan(LocalFile(str(path)))
    shard = JsonLines().open(LocalFile(str(path)), scan.digest, columns)
    return [shard.read(place).take(np.arange(place.rows)) for place in scan.places]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"\r\n",
        b"a",
        b"a\n",
        b"a\n\nb",
        b"\r",
        b"a\r\n\r\nb\r\n",
        b"\n\n\n\r",
        b"a\n\r\n\n",
        b"\r\na",
        b"x\r",
    ],
)
def test_lines_are_counted_as_they_are_read(text):
    assert count_lines(text) == len([line for line in text.split(b"\n") if line not in (b"", b"\r")])


def test_parts_end_where_lines_end_and_hold_every_row_once(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "PART_BYTES", 100)
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"n": n, "text": "ä" * (n % 40)}) for n in range(300)]
    path.write_text("\n".join(lines[:100]) + "\n\n\r\n" + "\r\n".join(lines[100:]))
    groups = every_row(path)
    assert [n for group in groups for n in group["n"]] == list(range(300))
    assert len(groups) > 50


def test_rows_are_taken_in_the_order_that_is_asked_for(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 0, "m": 1}\n{"n": 1}\n{"n": 2, "m": 3}\n')
    scan = JsonLines().scan(LocalFile(str(path)))
    group = JsonLines().open(LocalFile(str(path)), scan.digest, None).read(scan.places[0])
    assert group.take(np.array([2, 1])) == {"n": [2, 1], "m": [3, MISSING]}
    named = JsonLines().open(LocalFile(str(path)), scan.digest, ("m",)).read(scan.places[0])
    with pytest.raises(BadRowError, match="has no 'm'; it has n") as error:
        named.take(np.array([2, 1]))
    assert error.value.row == 1


@pytest.mark.parametrize(
    ("line", "reason"), [("{", "is no JSON"), ("[1]", "is a list"), ("\x00", "is no JSON")]
)
def test_a_bad_line_is_named(tmp_path, line, reason):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"n": 0}}\n{line}\n{{"n": 2}}\n')
    scan = JsonLines().scan(LocalFile(str(path)))
    group = JsonLines().open(LocalFile(str(path)), scan.digest, ("n",)).read(scan.places[0])
    assert group.take(np.array([2, 0])) == {"n": [2, 0]}
    with pytest.raises(BadRowError, match=reason) as error:
        group.take(np.array([2, 1]))
    assert error.value.row == 1


def test_a_part_whose_bytes_changed_is_not_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 10}\n{"n": 20}\n')
    scan = JsonLines().scan(LocalFile(str(path)))
    path.write_text('{"n": 10}\n{"n": 21}\n')  # as long as before
    with pytest.raises(ShardChangedError):
        JsonLines().open(LocalFile(str(path)), scan.digest, None).read(scan.places[0])
    assert JsonLines().scan(LocalFile(str(path))).digest != scan.digest
