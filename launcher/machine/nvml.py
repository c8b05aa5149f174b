"""What the NVIDIA driver says about the GPUs: names, places and users. Through ctypes; no package is needed.

Source: NVIDIA's NVML API reference. A function that an old driver lacks, or that the driver refuses (no
permission, not supported, as in a container or on a MIG slice), makes its answer unknown, never an error.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
_TOO_SMALL = 7  # NVML_ERROR_INSUFFICIENT_SIZE
_MIG_ENABLED = 1
_MEMORY_VERSION_2 = 2 << 24


@dataclass(frozen=True)
class Device:
    """One GPU, or one slice of a GPU that MIG has cut up."""

    index: int
    """Of the GPU, as nvidia-smi counts."""
    uuid: str
    """``GPU-…`` or ``MIG-…``."""
    pci: str
    """Of the GPU, as sysfs names it: ``0000:3b:00.0``; empty where unknown."""
    pids: tuple[int, ...] | None
    """Processes that compute on it, those of other users too; None where the driver does not say."""
    used: int | None
    """Bytes that are allocated, without the driver's own and a desktop's; None where it does not say."""
    slices: tuple[Device, ...] = ()
    """Its MIG devices; programs can use only these then."""


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class _Memory2(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_uint),
        *((name, ctypes.c_ulonglong) for name in ("total", "reserved", "free", "used")),
    ]


class _Process(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("memory", ctypes.c_ulonglong),
        ("instance", ctypes.c_uint),
        ("compute", ctypes.c_uint),
    ]


class _OldProcess(ctypes.Structure):
    _fields_ = [("pid", ctypes.c_uint), ("memory", ctypes.c_ulonglong)]


class _Pci(ctypes.Structure):
    _fields_ = [
        ("legacy", ctypes.c_char * 16),
        *((name, ctypes.c_uint) for name in ("domain", "bus", "device", "id", "subsystem")),
        ("name", ctypes.c_char * 32),
    ]


def read_devices() -> tuple[Device, ...]:
    """List every GPU that the driver knows, in its order; none without a driver."""
    with _driver() as nvml:
        if nvml is None:
            return ()
        count = ctypes.c_uint(0)
        if not _ok(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count)):
            return ()
        return tuple(_device(nvml, index) for index in range(count.value))


@contextmanager
def _driver() -> Iterator[ctypes.CDLL | None]:
    try:
        nvml = ctypes.CDLL(LIBRARY)
    except OSError:
        yield None
        return
    if not _ok(nvml, "nvmlInit_v2"):
        yield None
        return
    try:
        yield nvml
    finally:
        _ok(nvml, "nvmlShutdown")


def _ok(nvml: ctypes.CDLL, name: str, *arguments: Any) -> bool:
    """Tell whether the driver has this function, and it succeeded."""
    function = getattr(nvml, name, None)
    return function is not None and function(*arguments) == 0


def _device(nvml: ctypes.CDLL, index: int) -> Device:
    handle = ctypes.c_void_p()
    if not _ok(nvml, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle)):
        return Device(index, "", "", None, None)  # lost: it keeps its number
    pci = _pci(nvml, handle)
    slices = tuple(_described(nvml, part, index, pci) for part in _slices(nvml, handle))
    whole = _described(nvml, handle, index, pci)
    return Device(index, whole.uuid, pci, whole.pids, whole.used, slices)


def _described(nvml: ctypes.CDLL, handle: ctypes.c_void_p, index: int, pci: str) -> Device:
    computing = _processes(nvml, "Compute", handle)
    pids = None if computing is None else tuple(sorted({pid for pid, _ in computing}))
    return Device(index, _uuid(nvml, handle), pci, pids, _used(nvml, handle))


def _uuid(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> str:
    text = ctypes.create_string_buffer(96)
    if not _ok(nvml, "nvmlDeviceGetUUID", handle, text, ctypes.c_uint(len(text))):
        return ""
    return text.value.decode(errors="replace")


def _pci(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> str:
    info = _Pci()
    if not _ok(nvml, "nvmlDeviceGetPciInfo_v3", handle, ctypes.byref(info)):
        return ""
    return f"{info.domain:04x}:{info.bus:02x}:{info.device:02x}.0"


def _slices(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> Iterator[ctypes.c_void_p]:
    now, later, count = ctypes.c_uint(0), ctypes.c_uint(0), ctypes.c_uint(0)
    if not _ok(nvml, "nvmlDeviceGetMigMode", handle, ctypes.byref(now), ctypes.byref(later)):
        return
    if now.value != _MIG_ENABLED or not _ok(
        nvml, "nvmlDeviceGetMaxMigDeviceCount", handle, ctypes.byref(count)
    ):
        return
    for position in range(count.value):
        part = ctypes.c_void_p()
        where = (handle, ctypes.c_uint(position), ctypes.byref(part))
        if _ok(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", *where):
            yield part


def _used(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> int | None:
    newer, older = _Memory2(version=ctypes.sizeof(_Memory2) | _MEMORY_VERSION_2), _Memory()
    if _ok(nvml, "nvmlDeviceGetMemoryInfo_v2", handle, ctypes.byref(newer)):
        used = int(newer.used)
    elif _ok(nvml, "nvmlDeviceGetMemoryInfo", handle, ctypes.byref(older)):
        used = int(older.used)
    else:
        return None
    drawn = _processes(nvml, "Graphics", handle) or ()
    unknown = 2**64 - 1  # NVML_VALUE_NOT_AVAILABLE
    return max(0, used - sum(memory for _, memory in drawn if memory != unknown))


def _processes(nvml: ctypes.CDLL, kind: str, handle: ctypes.c_void_p) -> list[tuple[int, int]] | None:
    """Return (pid, bytes) of those that use the GPU in a way; None where the driver does not say."""
    versions: tuple[tuple[str, type[Any]], ...] = (("_v3", _Process), ("_v2", _Process), ("", _OldProcess))
    for version, structure in versions:
        function = getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses{version}", None)
        if function is not None:
            return _list(function, structure, handle)
    return None


def _list(function: Any, structure: type[Any], handle: ctypes.c_void_p) -> list[tuple[int, int]] | None:
    size = 32
    while True:
        count, found = ctypes.c_uint(size), (structure * size)()
        status = function(handle, ctypes.byref(count), found)
        if status == 0:
            return [(entry.pid, entry.memory) for entry in found[: count.value]]
        if status != _TOO_SMALL:
            return None
        size = max(2 * size, count.value + 8)  # more may have come meanwhile
