import gzip
import json
import zlib
from itertools import pairwise

import numpy as np
import pytest

from lockstep.data.shards import frames, json_lines
from lockstep.data.shards.shard_format import ShardChangedError
from lockstep.data.shards.shard_formats import FORMATS
from lockstep.data.storage.local_files import LocalFile
from tests.helpers.shard_files import rows

pa = pytest.importorskip("pyarrow", reason="Zstandard needs pyarrow")
COMPRESS = {
    "gzipped json lines": gzip.compress,
    "zstd json lines": lambda text: pa.Codec("zstd").compress(text, asbytes=True),
}
LINES = [json.dumps(row).encode() + b"\n" for row in rows(0, 300)]


def skippable(frame):
    return (0x184D2A53).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"hello" + frame


def read_all(name, path):
    scan = FORMATS[name].scan(LocalFile(str(path)))
    opened = FORMATS[name].open(LocalFile(str(path)), scan.digest, None)
    read = [opened.read(place).take(np.arange(place.rows))["label"] for place in scan.places]
    return scan, [label for labels in read for label in labels]


@pytest.mark.parametrize("name", COMPRESS)
@pytest.mark.parametrize("lines_per_frame", [300, 7])
def test_frames_that_end_where_a_line_does_are_read_alone(tmp_path, monkeypatch, name, lines_per_frame):
    monkeypatch.setattr(json_lines, "PART_BYTES", 2000)
    parts = [LINES[at : at + lines_per_frame] for at in range(0, 300, lines_per_frame)]
    path = tmp_path / "a"
    path.write_bytes(b"".join(COMPRESS[name](b"".join(part)) for part in parts))
    scan, labels = read_all(name, path)
    assert labels == [n % 10 for n in range(300)]
    assert (len(scan.places) == 1) == (lines_per_frame == 300)
    assert scan.decoded_bytes == 2 * sum(map(len, LINES))


@pytest.mark.parametrize("name", COMPRESS)
def test_a_line_that_goes_on_in_the_next_frame_joins_them(tmp_path, monkeypatch, name):
    monkeypatch.setattr(json_lines, "PART_BYTES", 1)
    text = b"".join(LINES).rstrip()
    cuts = [0, 50, len(b"".join(LINES[:9])), 2000, len(text)]
    frames = [COMPRESS[name](text[begin:end]) for begin, end in pairwise(cuts)]
    if name == "zstd json lines":
        frames = [skippable(frame) for frame in frames]
    path = tmp_path / "a"
    path.write_bytes(b"".join(frames))
    scan, labels = read_all(name, path)
    assert labels == [n % 10 for n in range(300)]
    assert [place.rows for place in scan.places] == [9, 291]


@pytest.mark.parametrize("name", COMPRESS)
def test_a_file_that_is_cut_off_changed_or_of_another_kind_is_refused(tmp_path, name):
    path = tmp_path / "a"
    content = COMPRESS[name](b"".join(LINES))
    path.write_bytes(content)
    scan = FORMATS[name].scan(LocalFile(str(path)))
    for end in (3, 5, 9, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"cut off|no \w+ file"):
            FORMATS[name].scan(LocalFile(str(path)))
        with pytest.raises(ShardChangedError):
            FORMATS[name].open(LocalFile(str(path)), scan.digest, None).read(scan.places[0])
    path.write_bytes(b"{}\n" * 9)
    with pytest.raises(ValueError, match="it is no"):
        FORMATS[name].scan(LocalFile(str(path)))


def test_zeros_behind_the_last_member_are_padding(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(b"".join(LINES)) + bytes(1000))
    assert read_all("gzipped json lines", path)[1] == [n % 10 for n in range(300)]


def test_what_is_read_of_a_file_of_small_members_grows_with_its_length(monkeypatch):
    """A member's decompressor copies what lies behind the member in what it was given."""
    member = gzip.compress(b"{}\n")
    given = 0

    class Counted:
        def __init__(self, bits):
            self._own = zlib_decompressobj(bits)

        def __getattr__(self, name):
            return getattr(self._own, name)

        def decompress(self, data):
            nonlocal given
            given += len(data)
            return self._own.decompress(data)

    zlib_decompressobj = zlib.decompressobj
    monkeypatch.setattr(frames.zlib, "decompressobj", Counted)
    sizes = []
    for count in (10_000, 40_000):
        given = 0
        assert sum(1 for _ in frames.gzip_frames(member * count)) == count
        sizes.append(given)
    assert sizes[1] < 5 * sizes[0]
    assert sizes[0] < 10_000 * 2**17
