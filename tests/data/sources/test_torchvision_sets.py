from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from lockstep.data.cache.array_cache import load_array
from lockstep.data.common.errors import DamagedError, MachineError, UsageError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import open_split
from lockstep.data.sources import torchvision_sets
from lockstep.data.sources.splits import ArraySplit
from tests.helpers.dataset_files import files_below, mnist_files, write_mnist

CLOSED = "http://127.0.0.1:9/"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root, and a torchvision that finds no server."""
    monkeypatch.setenv("no_proxy", "*")
    for cls in (torchvision.datasets.MNIST, torchvision.datasets.FashionMNIST):
        monkeypatch.setattr(cls, "mirrors", [CLOSED])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", CLOSED + "cifar-10-python.tar.gz")
    return tmp_path / "data"


@pytest.mark.parametrize(("use", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files_become_arrays(root: Path, use: str, folder: str) -> None:
    write_mnist(root, folder)
    facts = prepare(DataConfig(use=use), root)
    assert (facts.train.length, facts.val.length, facts.input_shape) == (30, 20, (1, 28, 28))
    assert facts.train.class_counts == (3,) * 10
    raw = mnist_files(folder)[f"{folder}/raw/train-images-idx3-ubyte"][16:]
    x, y = (load_array(facts.train.files[role]) for role in "xy")
    assert x.tobytes() == raw
    assert (x.dtype, y.dtype, y.tolist()) == (np.uint8, np.int64, list(range(10)) * 3)


def test_class_names() -> None:
    assert torchvision_sets.TORCHVISION_SETS["fashion_mnist"].class_names == tuple(
        torchvision.datasets.FashionMNIST.classes
    )
    assert torchvision_sets.TORCHVISION_SETS["mnist"].class_names == tuple("0123456789")


def test_the_root_is_only_read(root: Path) -> None:
    write_mnist(root)
    before = sorted(root.rglob("*"))
    prepare(DataConfig(use="mnist"), root)
    assert sorted(root.rglob("*")) == before


def test_the_config_the_environment_and_the_default_say_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert torchvision_sets.data_root(DataConfig(root="sub"), Path("/base")) == (
        Path("/base/sub"),
        "data.root",
    )
    assert torchvision_sets.data_root(DataConfig(root="/abs"), Path("/base")) == (Path("/abs"), "data.root")
    assert torchvision_sets.data_root(DataConfig(), Path("/base")) == (tmp_path / "data", "LOCKSTEP_DATA")
    monkeypatch.delenv("LOCKSTEP_DATA")
    monkeypatch.setenv("HOME", "/home/x")
    assert torchvision_sets.data_root(DataConfig(), Path("/base"))[0] == Path("/home/x/.cache/lockstep/data")


def test_cached_arrays_need_no_torch(root: Path) -> None:
    write_mnist(root)
    prepare(DataConfig(use="mnist"), root)
    code = (
        "import sys; from pathlib import Path; from lockstep.data.prepare import prepare\n"
        "from lockstep.data.config.data_config import DataConfig\n"
        "prepare(DataConfig(use='mnist', val_size=5), Path('/'))\n"
        "print(sorted({'torch', 'torchvision', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_changed_files_are_converted_again(root: Path) -> None:
    write_mnist(root)
    before = prepare(DataConfig(use="mnist"), root)
    write_mnist(root, train=40)
    after = prepare(DataConfig(use="mnist"), root)
    assert after.train.length == 40
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize("use", ["mnist", "fashion_mnist", "cifar10"])
def test_offline_says_which_files_belong_where(root: Path, use: str) -> None:
    with pytest.raises(MachineError) as caught:
        prepare(DataConfig(use=use), root)
    assert f"is not in {root} and cannot be downloaded" in caught.value.message
    assert "refused" in caught.value.message
    for name in torchvision_sets.TORCHVISION_SETS[use].files:
        assert f"\n  {name}" in caught.value.message
    assert "LOCKSTEP_DATA says where" in caught.value.hint
    assert "data.root" in caught.value.hint
    assert caught.value.exit_status == 3
    assert files_below(root) == []
    assert files_below(root.parent / "cache") == []


def test_only_missing_files_are_listed(root: Path) -> None:
    write_mnist(root)
    (root / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(MachineError) as caught:
        prepare(DataConfig(use="mnist", root=str(root)), root)
    assert "missing:\n  MNIST/raw/t10k-labels-idx1-ubyte" in caught.value.message
    assert "train-images" not in caught.value.message
    assert "data.root says where" in caught.value.hint
    assert len(files_below(root)) == 3, "files that were there stay"


def test_a_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="Not a directory"):
        prepare(DataConfig(use="mnist", root=str(tmp_path / "file" / "data")), tmp_path)


IMAGES = "MNIST/raw/train-images-idx3-ubyte"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: whole[:-1], "has 23535 bytes, its header says 23536"),
        (lambda whole: whole + b"x", "has 23537 bytes, its header says 23536"),
        (lambda whole: whole[:9], "is no IDX file of bytes"),
        (lambda _: b"", "is no IDX file of bytes"),
        (lambda _: b"<html>no such page</html>", "is no IDX file of bytes"),
        (lambda whole: whole[:2] + b"\x0d" + whole[3:], "is no IDX file of bytes"),
        (
            lambda whole: whole[:4] + struct.pack(">3I", 30, 14, 56) + whole[16:],
            "images of shape (30, 1, 14, 56)",
        ),
        (lambda _: mnist_files("MNIST", train=31)[IMAGES], "30 labels for images of shape (31, 1, 28, 28)"),
    ],
)
def test_damaged_idx_files(root: Path, content, message: str) -> None:
    write_mnist(root)
    (root / IMAGES).write_bytes(content((root / IMAGES).read_bytes()))
    with pytest.raises(DamagedError) as caught:
        prepare(DataConfig(use="mnist"), root)
    assert message in caught.value.message
    assert str(root / "MNIST/raw") in caught.value.message
    assert "delete" in caught.value.hint
    assert caught.value.exit_status == 6
    assert files_below(root.parent / "cache") == []


def test_labels_out_of_range(root: Path) -> None:
    write_mnist(root)
    path = root / "MNIST/raw/t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")
    with pytest.raises(DamagedError, match="labels run from 0 to 10, not within 0 to 9"):
        prepare(DataConfig(use="mnist"), root)


def test_unknown_arguments_and_normalisation(root: Path) -> None:
    write_mnist(root)
    with pytest.raises(UsageError, match="mnist has no such argument, did you mean 'mean'"):
        prepare(DataConfig(use="mnist", args={"meen": 1}), root)
    facts = prepare(DataConfig(use="mnist", args={"mean": 0.1307, "std": [0.3081]}), root)
    assert (facts.mean, facts.std) == ((0.1307,), (0.3081,))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def serve_mnist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server has is what torchvision expects."""
    folder.mkdir()
    resources = []
    for path, content in mnist_files("MNIST").items():
        packed = gzip.compress(content)
        name = f"{Path(path).name}.gz"
        (folder / name).write_bytes(packed)
        resources.append((name, hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)


def test_download(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    serve_mnist(tmp_path / "server", monkeypatch)
    with served(tmp_path / "server") as url:
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [url])
        facts = prepare(DataConfig(use="mnist"), root)
    assert facts.train.length == 30
    assert files_below(root) == sorted(mnist_files("MNIST"))
    out, err = capfd.readouterr()
    assert out == ""
    assert f"downloading MNIST to {root}" in err


def test_archives_that_are_there_are_used(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "MNIST").mkdir(parents=True)
    serve_mnist(root / "MNIST" / "raw", monkeypatch)
    facts = prepare(DataConfig(use="mnist"), root)
    assert facts.val.length == 20


@pytest.mark.parametrize("fault", ["half", "other"])
def test_a_download_that_fails_leaves_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    server = tmp_path / "server"
    serve_mnist(server, monkeypatch)
    last = server / "t10k-labels-idx1-ubyte.gz"
    content = last.read_bytes()
    faults = {"half": content[: len(content) // 2], "other": gzip.compress(b"other")}
    last.write_bytes(faults[fault])
    with served(server) as url:
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [url])
        with pytest.raises(MachineError) as caught:
            prepare(DataConfig(use="mnist"), root)
    assert "cannot be downloaded" in caught.value.message
    assert files_below(root) == []


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch, n: int = 20) -> None:
    cls = torchvision.datasets.CIFAR10
    folder = root / cls.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)

    def write(name: str, content: dict) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    batches = [
        write(
            name,
            {"data": rng.integers(0, 256, (n, 3072)).astype(np.uint8), "labels": [k % 10 for k in range(n)]},
        )
        for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")
    ]
    meta = write(
        "batches.meta", {"label_names": list(torchvision_sets.TORCHVISION_SETS["cifar10"].class_names)}
    )
    monkeypatch.setattr(cls, "train_list", batches[:5])
    monkeypatch.setattr(cls, "test_list", batches[5:])
    monkeypatch.setattr(cls, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})


def test_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(root, monkeypatch)
    config = DataConfig(use="cifar10", args={"mean": [0.5, 0.4, 0.3], "std": 0.2})
    facts = prepare(config, root)
    assert (facts.train.length, facts.val.length, facts.input_shape) == (100, 20, (3, 32, 32))
    assert facts.class_names[:2] == ("airplane", "automobile")
    assert facts.std == (0.2, 0.2, 0.2)
    reference = torchvision.datasets.CIFAR10(str(root), train=True)
    split = open_split(facts, "train", config, root)
    assert isinstance(split, ArraySplit)
    assert (split.x.numpy().transpose(0, 2, 3, 1) == reference.data).all()
    assert split.y.tolist() == reference.targets


def test_cifar_whose_md5_differs_is_never_unpickled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(root, monkeypatch)
    evil = root / "cifar-10-batches-py" / "data_batch_3"
    evil.write_bytes(b"cposix\nsystem\n(S'touch " + str(root / "pwned").encode() + b"'\ntR.")
    with pytest.raises(DamagedError) as caught:
        prepare(DataConfig(use="cifar10"), root)
    assert str(root / "cifar-10-batches-py") in caught.value.message
    assert not (root / "pwned").exists()


def test_cifar_from_its_archive(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path / "made", monkeypatch)
    root.mkdir()
    archive = root / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "made" / "cifar-10-batches-py", "cifar-10-batches-py")
    digest = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", digest)
    assert prepare(DataConfig(use="cifar10"), root).train.length == 100
    assert ".lockstep-CIFAR10" not in {path.name for path in root.iterdir()}
