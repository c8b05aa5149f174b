"""Shards behind addresses: the same rows as on this machine, also from a server that is killed and comes back."""

from __future__ import annotations

import http.server
import io
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.data.common.errors import DamagedError, LockstepError, MachineError, UsageError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import sample_reader
from lockstep.data.storage import addresses
from lockstep.data.storage.addresses import RemoteFile, list_addresses
from lockstep.data.storage.retries import read_patiently
from tests.helpers.launch import free_port
from tests.helpers.s3_server import BUCKET, CREDENTIALS, S3Server
from tests.helpers.shard_files import write_arrow, write_json_lines, write_parquet, write_tar

WRITERS = {"parquet": write_parquet, "jsonl": write_json_lines, "arrow": write_arrow, "tar": write_tar}
N = 211


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("storage") / "files"
    for ending, write in WRITERS.items():
        write(folder / ending, N, 3)
    (folder / "odd").mkdir()
    (folder / "odd" / "000.txt").write_text("no shard")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[S3Server]:
    pytest.importorskip("s3fs", reason="s3:// addresses need s3fs")
    pytest.importorskip("moto", reason="the S3 server is moto's")
    server = S3Server(folder, free_port())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield server
    server.stop()


def config_of(start: str, ending: str, **args: object) -> DataConfig:
    columns = {"input": "npy", "target": "cls"} if ending == "tar" else {"input": "x", "target": "label"}
    return DataConfig(
        use="shards", args={"files": f"{start}/{ending}/*.{ending}", **columns, **args}, batch_size=32
    )


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("start", ["s3://shards", "http"])
def test_a_set_behind_addresses_is_the_set_in_the_folder(
    server: S3Server, folder: Path, ending: str, start: str
) -> None:
    here = config_of(str(folder), ending)
    if start == "http":
        names = [f"{server.url}/shards/{ending}/{n:03}.{ending}" for n in range(3)]
        there = config_of("", ending, files=names)
    else:
        there = config_of(start, ending, storage={"endpoint_url": server.url})
    local, remote = (prepare(config, folder) for config in (here, there))
    assert remote.fingerprint == local.fingerprint
    reads = [
        sample_reader(facts, "train", config, folder) for facts, config in ((local, here), (remote, there))
    ]
    assert [length for length, _ in reads] == [N, N]
    for row in range(0, N, 20):
        (x, y), (other_x, other_y) = (read(row) for _, read in reads)
        assert np.array_equal(x, other_x)
        assert y == other_y


def test_a_server_that_is_killed_is_waited_for_and_named(
    server: S3Server, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = config_of("s3://shards", "jsonl", storage={"endpoint_url": server.url})
    facts = prepare(config, folder)
    _, read = sample_reader(facts, "train", config, folder)
    server.stop()

    def restart() -> None:
        time.sleep(3)
        server.start()

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        rows = [int(read(row)[0][0]) for row in range(N)]
    finally:
        thread.join()
    assert rows == list(range(N))
    assert (
        capfd.readouterr().err.count("note: waiting for s3://shards/jsonl/000.jsonl, for at most 120 s: ")
        == 1
    )


def test_a_server_that_stays_away_ends_the_run_by_name(
    monkeypatch: pytest.MonkeyPatch, folder: Path, server: S3Server
) -> None:
    config = config_of("s3://shards", "parquet", storage={"endpoint_url": server.url})
    facts = prepare(config, folder)
    monkeypatch.setattr("lockstep.data.sources.shards.RUN_PATIENCE", 0.5)
    server.stop()
    try:
        _, read = sample_reader(facts, "train", config, folder)
        with pytest.raises(
            MachineError, match=r"s3://shards/parquet/000\.parquet could not be read for"
        ) as error:
            read(0)
    finally:
        server.start()
    assert error.value.hint == "see that the server answers, then resume the run"


def test_a_server_that_is_silent_between_two_reads_of_a_file_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch, folder: Path, server: S3Server
) -> None:
    from pyarrow import parquet

    waits = []

    def counted(read: Callable[[], Any], name: str, seconds: float) -> Any:
        try:
            return read_patiently(read, name, seconds)
        except MachineError:
            waits.append(name)
            raise

    footers = [parquet.read_metadata(path) for path in sorted((folder / "parquet").iterdir())]
    number = next(n for n, footer in enumerate(footers) if footer.num_row_groups > 1)
    first = sum(footer.num_rows for footer in footers[:number])
    config = config_of("s3://shards", "parquet", storage={"endpoint_url": server.url})
    facts = prepare(config, folder)
    monkeypatch.setattr("lockstep.data.sources.shards.RUN_PATIENCE", 0.5)
    monkeypatch.setattr(addresses, "read_patiently", counted)
    _, read = sample_reader(facts, "train", config, folder)
    read(first)
    server.stop()
    try:
        with pytest.raises(MachineError):
            read(first + footers[number].row_group(0).num_rows)
    finally:
        server.start()
    assert waits == [f"s3://shards/parquet/{number:03}.parquet"]


def test_a_file_that_became_shorter_is_not_at_its_end(server: S3Server, folder: Path) -> None:
    import s3fs

    path = folder / "jsonl" / "001.jsonl"
    bucket = s3fs.S3FileSystem(endpoint_url=server.url)
    with RemoteFile("s3://shards/jsonl/001.jsonl", {"endpoint_url": server.url}).open() as opened:
        bucket.pipe_file(f"{BUCKET}/jsonl/001.jsonl", path.read_bytes()[:20])
        try:
            with pytest.raises(OSError, match="it has become shorter while it was read"):
                opened.read()
        finally:
            bucket.pipe_file(f"{BUCKET}/jsonl/001.jsonl", path.read_bytes())


def test_options_of_a_user_leave_the_timeouts_that_they_do_not_name() -> None:
    pytest.importorskip("s3fs", reason="s3:// addresses need s3fs")
    options = {"config_kwargs": {"signature_version": "s3v4", "read_timeout": 5}, "anon": True}
    system, _ = addresses._file_system("s3://b/a.parquet", options)
    asked = {"signature_version": "s3v4", "read_timeout": 5, "connect_timeout": 10}
    assert {key: system.config_kwargs[key] for key in asked} == asked
    assert system.anon


@pytest.mark.parametrize("ending", WRITERS)
def test_a_file_that_is_written_anew_under_the_run_is_named(
    server: S3Server, folder: Path, ending: str
) -> None:
    import s3fs

    config = config_of("s3://shards", ending, storage={"endpoint_url": server.url})
    facts = prepare(config, folder)
    _, read = sample_reader(facts, "train", config, folder)
    last = N - 1
    if ending == "parquet":
        read(last)  # its footer is read once; then only its row groups are
    path = folder / ending / f"002.{ending}"
    bucket = s3fs.S3FileSystem(endpoint_url=server.url)
    bucket.pipe_file(f"{BUCKET}/{ending}/{path.name}", path.with_name(f"001.{ending}").read_bytes())
    words = rf"s3://shards/{ending}/002\.{ending}, row group \d+: the file was changed"
    try:
        with pytest.raises(DamagedError, match=words):
            [read(row) for row in range(last, last - 60, -1)]
        assert prepare(config, folder).fingerprint != facts.fingerprint
    finally:
        bucket.pipe_file(f"{BUCKET}/{ending}/{path.name}", path.read_bytes())


class _NoRanges(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_server_that_sends_whole_files_only_is_refused(folder: Path) -> None:
    pytest.importorskip("aiohttp", reason="http:// addresses need aiohttp")
    handler = partial(_NoRanges, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as plain:
        threading.Thread(target=plain.serve_forever, daemon=True).start()
        try:
            config = config_of(
                "", "parquet", files=f"http://127.0.0.1:{plain.server_port}/parquet/000.parquet"
            )
            with pytest.raises(MachineError, match=r"000\.parquet: .*it cannot send parts of files"):
                prepare(config, folder)
        finally:
            plain.shutdown()


@pytest.mark.parametrize(
    ("files", "storage", "words"),
    [
        ("s3://nobucket/*.parquet", {}, "there is no file s3://nobucket/"),
        ("s3://shards/none.parquet", {}, "there is no file s3://shards/none.parquet"),
        (
            "s3://shards/parquet/*",
            {"endpoint_url": None, "tokens": 1},
            r"data.args.storage.tokens: .* no secret",
        ),
        (
            "s3://shards/*.parquet",
            {"client_kwargs": {"aws_secret_access_key": "x"}},
            "no secret may be in it",
        ),
        ("s3://shards/*.parquet", {"unknown_option": 1}, "data.args.storage: .*unknown_option"),
        ("s3://shards/*.parquet", [1], "is not a map of options"),
        ("nowhere://a/b.parquet", {}, "Protocol not known: nowhere"),
        ("https://user:word@host/b.parquet", {}, "address of host/b.parquet holds credentials"),
        ("http://127.0.0.1:1/b.parquet", {}, "could not be read for"),
        ("gs://a/b.parquet", {}, "gs:// addresses need a package: .*gcsfs"),
        (["s3://shards/parquet/000.parquet", "s3://shards/parquet/*.parquet"], {}, "two patterns name s3://"),
        ("s3://shards/odd/000.txt", {}, "is of no known format"),
        ("simplecache::https://user:word@host/b.parquet", {}, "holds credentials"),
        (
            "s3://shards/*.parquet",
            {"client_kwargs": {"endpoint_url": "http://u:p@h"}},
            "no secret may be in it",
        ),
        ("s3://shards/*.parquet", {"headers": [{"Cookie": "x"}]}, "no secret may be in it"),
    ],
)
def test_addresses_that_cannot_be_read_are_refused_before_the_ranks_start(
    server: S3Server,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: object,
    storage: object,
    words: str,
) -> None:
    monkeypatch.setattr(addresses, "START_PATIENCE", 0.5)
    if isinstance(storage, dict):
        storage = (
            {"endpoint_url": server.url, **storage} if str(files).startswith(("s3", "['s3")) else storage
        )
    with pytest.raises(LockstepError, match=words) as error:
        prepare(config_of("", "parquet", files=files, storage=storage), folder)
    assert isinstance(error.value, UsageError | MachineError)
    assert error.value.hint


def test_a_remote_file_reads_as_a_local_one(server: S3Server, folder: Path) -> None:
    content = (folder / "tar" / "000.tar").read_bytes()
    file = RemoteFile("s3://shards/tar/000.tar", {"endpoint_url": server.url})
    assert file.read_all() == content
    assert (file.read(5, 5), file.read(3, 9), file.read(len(content) - 2, len(content))) == (
        b"",
        content[3:9],
        content[-2:],
    )
    with file.open() as opened:
        assert (opened.read(7), opened.tell()) == (content[:7], 7)
        assert (opened.seek(-3, io.SEEK_END), opened.read()) == (len(content) - 3, content[-3:])
    assert list_addresses("s3://shards/*/00[01].tar", {"endpoint_url": server.url}) == [
        "s3://shards/tar/000.tar", "s3://shards/tar/001.tar",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (ConnectionResetError(), 2),
        (TimeoutError(), 2),
        (OSError("a server said so"), 2),
        (FileNotFoundError(), 1),
        (PermissionError(), 1),
        (OSError(22, "the range is none"), 1),
        (ValueError(), 1),
        (MemoryError(), 1),
        (KeyError("a bug"), 1),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, tries: int) -> None:
    calls: list[int] = []

    def read() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise error
        return 5

    if tries > 1:
        assert read_patiently(read, "a", 5) == 5
    else:
        with pytest.raises(MachineError if isinstance(error, PermissionError) else type(error)):
            read_patiently(read, "a", 5)
    assert len(calls) == tries
