"""``mnist``, ``fashion_mnist`` and ``cifar10``: torchvision downloads, checks and reads; arrays are kept.

torchvision is imported only where the arrays of these very files are not in the cache: it takes seconds.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache import array_split_info, cached, entry_key, fingerprint, save_array
from ..common import DamagedError, MachineError
from ..config import DataConfig, DatasetInfo
from .arguments import ImageArguments
from .source import DataSource

_VERSION = 1
_TIMEOUT = 30.0  # seconds without a byte; torchvision itself would wait for ever
_CLASSES = 10

Pair = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images [N, C, H, W] and labels [N]."""


@dataclass(frozen=True)
class TorchvisionSet:
    """A data set as torchvision lays it out under a root."""

    cls: str
    """Class of ``torchvision.datasets``."""
    folder: str
    files: tuple[str, ...]
    archives: tuple[str, ...]
    """Relative to the root: what torchvision downloads, and takes from there when it is whole."""
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    read: Callable[[TorchvisionSet, Path, bool], Pair]
    verify: Callable[[Path], None]


def data_root(config: DataConfig, base: Path) -> tuple[Path, str]:
    """Find the folder that holds data sets, and the setting that named it."""
    if config.root is not None:
        return (base / Path(config.root).expanduser()).absolute(), "data.root"
    chosen = os.environ.get("LOCKSTEP_DATA")
    if chosen:
        return Path(chosen).absolute(), "LOCKSTEP_DATA"
    return Path.home() / ".cache" / "lockstep" / "data", "the default"


def make_ready(arguments: ImageArguments, config: DataConfig, base: Path) -> DatasetInfo:
    """Download a data set of torchvision's if it is not there, and keep it as arrays in the cache.

    Args:
        arguments: ``mean`` and ``std``.
        config: names the data set, and the folder that it lies in.
        base: what a relative ``data.root`` is relative to.

    Raises:
        MachineError: the files are not there and cannot be downloaded.
        DamagedError: a file is not what it should be.
    """
    source = TORCHVISION_SETS[config.use]
    mean, std = arguments.normalisation(source.shape[0])
    root, origin = data_root(config, base)
    if _missing_files(source, root):
        _fetch(source, root, origin)
    _check_readable(source, root)
    entry = cached(_key(source, root), lambda folder: _build(source, root, folder))
    return DatasetInfo(
        name=config.use,
        kind="arrays",
        train=array_split_info(entry, "train", _CLASSES),
        val=array_split_info(entry, "val", _CLASSES),
        input_shape=source.shape,
        input_dtype="uint8",
        classes=_CLASSES,
        class_names=source.class_names,
        target_shape=(),
        mean=mean,
        std=std,
        fingerprint=fingerprint(config.use, entry.hashes, mean, std),
    )


def _key(source: TorchvisionSet, root: Path) -> str:
    stamps = [(name, (root / name).stat()) for name in source.files]
    return entry_key(
        source.cls, _VERSION, [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stamps], str(root)
    )


def _build(source: TorchvisionSet, root: Path, folder: Path) -> dict[str, Any]:
    _verify(source, root)
    for split in ("train", "val"):
        images, labels = source.read(source, root, split == "train")
        _check(source, root, images, labels)
        save_array(folder / f"{split}_x.npy", images)
        save_array(folder / f"{split}_y.npy", labels)
    return {}


def _check(source: TorchvisionSet, root: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    where = root / source.folder
    if images.shape[1:] != source.shape or len(images) != len(labels) or not len(labels):
        raise DamagedError(
            f"{where}: {len(labels)} labels for images of shape {images.shape}",
            f"delete {where} to download it again",
        )
    if labels.min() < 0 or labels.max() >= _CLASSES:
        raise DamagedError(
            f"{where}: labels run from {labels.min()} to {labels.max()}, not within 0 to {_CLASSES - 1}",
            f"delete {where} to download it again",
        )


def _missing_files(source: TorchvisionSet, root: Path) -> list[str]:
    return [name for name in source.files if not (root / name).is_file()]


def _check_readable(source: TorchvisionSet, root: Path) -> None:
    for name in source.files:
        if not os.access(root / name, os.R_OK):
            raise MachineError(f"{root / name} may not be read", "ask its owner for the right to read it")


def _verify(source: TorchvisionSet, root: Path) -> None:
    for name in source.files:
        source.verify(root / name)


def _fetch(source: TorchvisionSet, root: Path, origin: str) -> None:
    """Download into a folder of its own; only whole files move to where they belong."""
    partial = root / f".lockstep-{source.cls}"
    try:
        with _locked(root, source.cls):
            if not _missing_files(source, root):
                return
            try:
                _download(source, root, partial)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (RuntimeError, OSError, HTTPException, TarError, EOFError) as error:
        raise _download_error(source, root, origin, error) from error


@contextmanager
def _locked(root: Path, name: str) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".lockstep-{name}.lock").open("w") as file:
        flock(file, LOCK_EX)
        yield


def _download(source: TorchvisionSet, root: Path, partial: Path) -> None:
    import torchvision.datasets

    shutil.rmtree(partial, ignore_errors=True)
    for archive in source.archives:
        if (root / archive).is_file():
            (partial / archive).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / archive, partial / archive)
    sys.stderr.write(f"downloading {source.cls} to {root}\n")
    with _socket_timeout():
        getattr(torchvision.datasets, source.cls)(str(partial), download=True)
    _verify(source, partial)
    for name in source.files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).replace(root / name)


@contextmanager
def _socket_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _download_error(source: TorchvisionSet, root: Path, origin: str, error: Exception) -> MachineError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    missing = "".join(f"\n  {name}" for name in _missing_files(source, root))
    return MachineError(
        f"{source.cls} is not in {root} and cannot be downloaded: {reason[-1]}\nmissing:{missing}",
        f"put these files below {root} ({origin} says where), "
        "or name the folder that has them in data.root or LOCKSTEP_DATA",
    )


def _read_mnist(source: TorchvisionSet, root: Path, train: bool) -> Pair:  # noqa: FBT001 - torchvision's own flag
    from torchvision.datasets.mnist import read_image_file, read_label_file

    images, labels = source.files[:2] if train else source.files[2:]
    pixels = read_image_file(str(root / images)).numpy()[:, None]
    return pixels, read_label_file(str(root / labels)).numpy().astype(np.int64)


def _verify_idx(path: Path) -> None:
    """Check that an IDX file is as long as its header says; torchvision would take half of one for whole."""
    with path.open("rb") as file:
        head = file.read(4)
        dimensions = head[3] if len(head) == 4 else 0  # noqa: PLR2004 - two zeros, type, dimensions
        sizes = file.read(4 * dimensions)
    if head[:3] != b"\0\0\x08" or dimensions not in (1, 3) or len(sizes) < 4 * dimensions:
        raise DamagedError(f"{path} is no IDX file of bytes", f"delete {path} to download it again")
    expected = 4 + 4 * dimensions + int(np.prod(struct.unpack(f">{dimensions}I", sizes), dtype=np.int64))
    if path.stat().st_size != expected:
        raise DamagedError(
            f"{path} has {path.stat().st_size} bytes, its header says {expected}",
            f"delete {path} to download it again",
        )


def _read_cifar(source: TorchvisionSet, root: Path, train: bool) -> Pair:  # noqa: FBT001 - torchvision's own flag
    import torchvision.datasets

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy 2.4 finds the pickles of 2009 old-fashioned
        try:
            data = getattr(torchvision.datasets, source.cls)(str(root), train=train)
        except RuntimeError as error:
            where = root / source.folder
            raise DamagedError(f"{where}: {error}", f"delete {where} to download it again") from error
    return np.ascontiguousarray(data.data.transpose(0, 3, 1, 2)), np.array(data.targets, np.int64)


def _mnist(cls: str, class_names: tuple[str, ...]) -> TorchvisionSet:
    roles = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    files = tuple(f"{cls}/raw/{role}-ubyte" for role in roles)
    archives = tuple(f"{name}.gz" for name in files)
    return TorchvisionSet(
        cls, f"{cls}/raw", files, archives, (1, 28, 28), class_names, _read_mnist, _verify_idx
    )


_CIFAR = "cifar-10-batches-py"
_CIFAR_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")

TORCHVISION_SETS = {
    "mnist": _mnist("MNIST", tuple(str(digit) for digit in range(10))),
    "fashion_mnist": _mnist(
        "FashionMNIST",
        (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
    ),
    "cifar10": TorchvisionSet(
        "CIFAR10",
        _CIFAR,
        tuple(f"{_CIFAR}/{name}" for name in _CIFAR_FILES),
        ("cifar-10-python.tar.gz",),
        (3, 32, 32),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        _read_cifar,
        lambda _: None,  # torchvision checks the MD5 of each before it reads
    ),
}
"""Name in a config to what torchvision calls it."""
TORCHVISION_SOURCES = tuple(
    DataSource(name, f"torchvision's {one.cls}, downloaded when it is not there.", ImageArguments, make_ready)
    for name, one in TORCHVISION_SETS.items()
)
