"""A value of a user's as a stream of bytes and the memory of its arrays, which all processes of a machine map.

The arrays keep their types, strides and what they share with each other; a process that writes to one gets pages of its
own. The stream is read only where it has the hash that the preparation has told.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import mmap
import os
import pickle
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache import cached, find_entry, load_array, save_array

Bytes = NDArray[np.uint8]
_STREAM, _BUFFERS, _LAYOUT = "value.pickle", "buffers.npy", "layout.npy"
_ALIGNMENT = 64
"""Bytes: torch begins a tensor's memory on such a boundary, and a sum's bits may depend on it."""
_LEAST_BYTES = 256
"""Of an array that is mapped; smaller ones are in the stream."""
_CHUNK = 2**20
_MOST_STREAMED = 2**30
_DEVICE = re.compile(rb"\x8c.(?:cuda|mps|xpu)(?::\d+)?\x94", re.DOTALL)
"""The name of one as a text, as pickle writes it."""


class NotShared(Exception):  # noqa: N818 - a reason, not a failure
    """A reason why a value cannot be shared."""


@dataclass(frozen=True)
class PackedValue:
    """A value that can be shared, not yet written."""

    stream: bytes
    """Everything but the arrays."""
    buffers: list[Any]
    """The memory of the arrays, as buffers."""

    @property
    def array_bytes(self) -> int:
        """Return the memory of the arrays."""
        return sum(memoryview(buffer).nbytes for buffer in self.buffers)

    def store(self, of: str, about: str) -> dict[str, str]:
        """Write it into the cache, unless it is there; return what ``mapped_value`` needs.

        Args:
            of: identifies what has made it, which is the first part of the entry's name.
            about: says in the list of the cache what it is.

        Raises:
            MachineError: the cache cannot be written.
        """
        digest = hashlib.sha256(hashlib.sha256(self.stream).digest())
        for buffer in self.buffers:
            digest.update(memoryview(buffer).cast("B"))
        maker = hashlib.sha256(of.encode()).hexdigest()[:12]
        entry = cached(f"data-{maker}-{digest.hexdigest()[:20]}", partial(self._write, about))
        return {"entry": entry.folder.name, "stream": hashlib.sha256(self.stream).hexdigest()}

    def _write(self, about: str, folder: Path) -> dict[str, Any]:
        sizes = np.array([memoryview(buffer).nbytes for buffer in self.buffers], np.int64)
        room = (sizes + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
        starts = np.cumsum(room) - room
        writable = [not memoryview(buffer).readonly for buffer in self.buffers]
        layout = np.stack([starts, sizes, np.array(writable, np.int64)], axis=-1)
        save_array(folder / _LAYOUT, np.vstack([layout, [0, 0, 1]]))
        (folder / _STREAM).write_bytes(self.stream)
        size = int(room.sum()) + _ALIGNMENT  # what is empty cannot be mapped
        header = {"descr": "|u1", "fortran_order": False, "shape": (size,)}
        with (folder / _BUFFERS).open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            first = file.tell()
            for start, buffer in zip(starts.tolist(), self.buffers, strict=True):
                _write_sparsely(file, first + start, memoryview(buffer).cast("B"))
            file.truncate(first + size)
            file.flush()
            os.fsync(file.fileno())
        return {"about": about}


def packed_value(value: Any) -> PackedValue:
    """Take a value apart, without a copy of its arrays.

    Raises:
        NotShared: something in it belongs to this process alone.
    """
    sink = _LimitedStream()
    pickler = _Pickler(sink)
    try:
        pickler.dump(value)
    except NotShared:
        raise
    except Exception as error:  # the user's classes may raise anything
        raise NotShared(_first_line(error)) from error
    stream = sink.getvalue()
    if _DEVICE.search(stream):
        raise NotShared("it names a device, which may be another one in each process")
    return PackedValue(stream, pickler.buffers)


def mapped_value(shared: dict[str, str]) -> Any:
    """Put a value together again, its arrays mapped.

    Args:
        shared: what ``PackedValue.store`` returned on this machine.

    Raises:
        NotShared: it is not there any more, is another one, or cannot be put together here.
    """
    entry = find_entry(shared["entry"])
    if entry is None:
        raise NotShared("it is not in the cache any more")
    stream = (entry.folder / _STREAM).read_bytes()
    if hashlib.sha256(stream).hexdigest() != shared["stream"]:
        raise NotShared("it is another one in the cache")
    whole = load_array(entry.folder / _BUFFERS)
    layout = load_array(entry.folder / _LAYOUT)
    try:
        return pickle.loads(stream, buffers=_buffers(whole, layout))  # noqa: S301 - its hash is known
    except Exception as error:  # the user's classes may raise anything
        raise NotShared(_first_line(error)) from error


def _buffers(whole: Bytes, layout: NDArray[np.int64]) -> Iterator[memoryview]:
    for start, size, writable in layout.tolist():
        part = memoryview(whole[start : start + size].data)
        yield part if writable else part.toreadonly()


def _write_sparsely(file: Any, start: int, content: memoryview) -> None:
    """Write at a place, but for zeros, which a file has where nothing was written."""
    for at in range(0, content.nbytes, _CHUNK):
        chunk = content[at : at + _CHUNK]
        if np.frombuffer(chunk, np.uint8).any():
            file.seek(start + at)
            file.write(chunk)


class _LimitedStream(io.BytesIO):
    """A stream that takes no more than each process could hold."""

    def write(self, content: Any) -> int:
        if self.tell() + memoryview(content).nbytes > _MOST_STREAMED:
            raise NotShared("it has more than 1 GiB of Python objects besides arrays")
        return super().write(content)


class _Pickler(pickle.Pickler):
    """A pickler that leaves the memory of arrays and tensors out, and refuses what is of this process alone."""

    def __init__(self, sink: io.BytesIO) -> None:
        super().__init__(sink, protocol=5, buffer_callback=self._take)
        self.buffers: list[Any] = []
        self._whole: dict[int, tuple[Any, Bytes]] = {}
        """The memory of storages and of arrays that others are views of, by its address."""
        self._files = _mapped_files()

    def reducer_override(self, value: Any) -> Any:
        """Take tensors and views of arrays apart; leave anything else to pickle."""
        import torch

        if isinstance(value, torch.Tensor):
            return self._reduced_tensor(value)
        if isinstance(value, np.memmap | mmap.mmap):
            raise NotShared("it maps a file, as each process can by itself")
        if type(value) is np.ndarray and not value.dtype.hasobject and not value.flags.forc and value.size:
            return self._reduced_view(value)
        return NotImplemented

    def _reduced_tensor(self, tensor: Any) -> Any:
        import torch

        if tensor.device.type != "cpu":
            raise NotShared(f"it has a tensor on {tensor.device}")
        plain = type(tensor) is torch.Tensor and tensor.layout == torch.strided and not tensor.requires_grad
        odd = tensor.is_quantized or tensor.is_conj() or tensor.is_neg() or vars(tensor)
        if not plain or odd:
            return NotImplemented
        if tensor.is_shared():
            raise NotShared("it has a tensor in shared memory, which processes may write to")
        storage = tensor.untyped_storage()
        if storage.nbytes() == 0:
            return NotImplemented
        whole = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
        whole = self._whole.setdefault(storage.data_ptr(), (storage, whole))[1]
        shape, strides = tuple(tensor.shape), tensor.stride()
        return _tensor, (whole, tensor.dtype, tensor.storage_offset(), shape, strides)

    def _reduced_view(self, view: NDArray[Any]) -> Any:
        root: Any = view
        while type(root.base) is np.ndarray:
            root = root.base
        low, high = np.lib.array_utils.byte_bounds(root)
        if low not in self._whole:
            memory = memoryview((ctypes.c_ubyte * (high - low)).from_address(low)).cast("B")
            self._whole[low] = root, np.frombuffer(memory, np.uint8)
        whole = self._whole[low][1]
        if whole.nbytes < high - low:
            raise NotShared("it has arrays that lie in one another in a way that cannot be told")
        start = view.__array_interface__["data"][0] - low
        make = _view if view.flags.writeable else _fixed_view
        return make, (whole, view.dtype, start, view.shape, view.strides)

    def _take(self, buffer: pickle.PickleBuffer) -> bool:
        """Keep a buffer out of the stream, unless it is small."""
        raw = buffer.raw()
        if raw.nbytes < _LEAST_BYTES:
            return True
        if self._files.holds(np.frombuffer(raw, np.uint8).__array_interface__["data"][0]):
            raise NotShared("it maps a file, as each process can by itself")
        self.buffers.append(raw)
        return False


def _tensor(whole: Bytes, dtype: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    import torch

    return torch.empty(0, dtype=dtype).set_(torch.from_numpy(whole).untyped_storage(), offset, shape, strides)


def _view(
    whole: Bytes, dtype: Any, start: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> NDArray[Any]:
    return np.ndarray(shape, dtype, whole, start, strides)


def _fixed_view(
    whole: Bytes, dtype: Any, start: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> NDArray[Any]:
    view = _view(whole, dtype, start, shape, strides)
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class _MappedFiles:
    """The ranges of this process's memory that files are mapped to."""

    starts: list[int]
    ends: list[int]

    def holds(self, address: int) -> bool:
        """Tell whether an address is in one of them."""
        at = bisect_right(self.starts, address) - 1
        return at >= 0 and address < self.ends[at]


def _mapped_files() -> _MappedFiles:
    ranges = []
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as file:
        for line in file:
            span, _, _, _, inode = line.split()[:5]
            if inode != "0":
                ranges.append([int(bound, 16) for bound in span.split("-")])
    return _MappedFiles([start for start, _ in ranges], [end for _, end in ranges])


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(": ")
