import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from lockstep.data.shards import tar_files
from lockstep.data.shards.shard_format import MISSING, BadRowError, ShardChangedError
from lockstep.data.shards.tar_files import TarFiles
from lockstep.data.storage.local_files import LocalFile


def png(number):
    file = io.BytesIO()
    Image.new("L", (4, 3), number).save(file, "PNG")
    return file.getvalue()


def npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def write(path, members, kind=tarfile.GNU_FORMAT):
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return str(path)


def sample(number, folder="a/"):
    stem = f"{folder}{number:03}"
    return [
        (f"{stem}.PNG", png(number)),
        (f"{stem}.cls", str(number).encode()),
        (f"{stem}.meta.json", json.dumps({"n": number}).encode()),
        (f"{stem}.txt", f"r{number}".encode()),
        (f"{stem}.npy", npy(np.arange(3) + number)),
    ]


def test_members_of_a_stem_are_a_sample_and_their_endings_its_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_files, "PART_BYTES", 20_000)
    path = write(tmp_path / "a.tar", [member for number in range(20) for member in sample(number)])
    scan = TarFiles().scan(LocalFile(path))
    assert sum(place.rows for place in scan.places) == 20
    assert len(scan.places) > 3
    first, last = scan.places[0], scan.places[-1]
    opened = TarFiles().open(LocalFile(path), scan.digest, None)
    taken = opened.read(last).take(np.array([last.rows - 1, 0]))
    assert taken["cls"] == [19, 20 - last.rows]
    assert taken["__key__"][0] == "a/019"
    assert taken["meta.json"][0] == {"n": 19}
    assert taken["txt"][0] == "r19"
    assert taken["npy"][0].tolist() == [19, 20, 21]
    assert taken["png"][0] == png(19)
    assert opened.read(first).take(np.array([2]))["cls"] == [2]


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_what_is_no_sample(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(tar_files, "PART_BYTES", 1)
    folder = "ü" + "x" * 150 + "/"
    members = [(".hidden.txt", b"-"), *sample(1, folder), ("README", b"-"), *sample(2, folder)]
    path = write(tmp_path / "a.tar", members, kind)
    scan = TarFiles().scan(LocalFile(path))
    assert [place.rows for place in scan.places] == [1, 1]
    groups = [
        TarFiles().open(LocalFile(path), scan.digest, ("cls", "__key__")).read(place) for place in scan.places
    ]
    taken = [group.take(np.array([0])) for group in groups]
    assert taken == [{"cls": [n], "__key__": [f"{folder}{n:03}"]} for n in (1, 2)]


def test_a_sample_without_a_column(tmp_path):
    path = write(tmp_path / "a.tar", [*sample(1), ("a/002.txt", b"b")])
    scan = TarFiles().scan(LocalFile(path))
    whole = TarFiles().open(LocalFile(path), scan.digest, None).read(scan.places[0]).take(np.array([1, 0]))
    assert whole["cls"] == [MISSING, 1]
    group = TarFiles().open(LocalFile(path), scan.digest, ("cls",)).read(scan.places[0])
    with pytest.raises(BadRowError, match=r"a/002 has no 'cls'; it has txt") as error:
        group.take(np.array([0, 1]))
    assert error.value.row == 1


@pytest.mark.parametrize(
    ("name", "content"), [("cls", b"x"), ("json", b"{"), ("txt", b"\xff"), ("npy", b"\x93NUMPY")]
)
def test_a_member_that_cannot_be_decoded_is_named(tmp_path, name, content):
    path = write(tmp_path / "a.tar", [*sample(1), (f"a/002.{name}", content)])
    scan = TarFiles().scan(LocalFile(path))
    group = TarFiles().open(LocalFile(path), scan.digest, (name,)).read(scan.places[0])
    with pytest.raises(BadRowError, match=rf"a/002\.{name} cannot be decoded"):
        group.take(np.array([1]))


def test_a_file_that_is_cut_off_changed_or_ambiguous_is_refused(tmp_path):
    path = write(tmp_path / "a.tar", sample(1) + sample(2))
    scan = TarFiles().scan(LocalFile(path))
    opened = TarFiles().open(LocalFile(path), scan.digest, None)
    write(path, sample(1) + sample(3))
    with pytest.raises(ShardChangedError):
        opened.read(scan.places[0])
    content = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(content[: scan.places[0].end - 600])
    with pytest.raises(ShardChangedError):
        opened.read(scan.places[0])
    with pytest.raises((ValueError, tarfile.TarError)):
        TarFiles().scan(LocalFile(path))
    twice = write(tmp_path / "b.tar", [*sample(1), sample(1)[1]])
    with pytest.raises(ValueError, match="two members"):
        TarFiles().scan(LocalFile(twice))


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_member_that_is_a_link_is_refused(tmp_path, kind):
    """Passing over it would leave a sample without a column, or none at all."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in sample(1):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("a/002.png")
        link.type, link.linkname = kind, "a/001.PNG"
        tar.addfile(link)
    with pytest.raises(ValueError, match=r"'a/002\.png' is a link"):
        TarFiles().scan(LocalFile(str(tmp_path / "a.tar")))
