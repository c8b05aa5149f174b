"""What the words of an error mean: whether it only tells of another rank's end, and what can be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OF_THE_GROUP = ("DistBackendError", "DistNetworkError", "DistStoreError")
_OWN_FAULTS = ("invalid usage", "duplicate gpu", "unhandled cuda error", "invalid argument")
"""Of the same classes, but the rank's own."""
_ABORTS = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "connection was closed",
    "socket closed",
    "remote process exited or there was a network error",
    "nccl communicator was aborted",
    "ncclremoteerror",
    "timed out waiting for clients",
    "closed pair",
    "caused pair closure",
)
_BROKEN_OFF = ("EOFError", "ConnectionResetError", "ConnectionRefusedError", "FileNotFoundError")
_MEMORY_KINDS = ("OutOfMemoryError", "MemoryError")
_NO_MEMORY = "can't allocate memory"  # torch's own allocator on the processor raises a RuntimeError
_HINTS = (
    (
        ("shared memory", "bus error", "SIGBUS"),
        "/dev/shm may be too small (docker: --shm-size), or use fewer loader workers",  # noqa: S108 - only named
    ),
    (("dataloader worker",), "a worker of the DataLoader died: with num_workers=0 its own error is shown"),
    (("outofmemoryerror",), "use a smaller batch per process"),
    (
        ("memoryerror", "cannot allocate memory", "can't allocate memory"),
        "use fewer processes, smaller batches or fewer loader workers",
    ),
    (
        ("address already in use",),
        "the script opens a port of its own: read MASTER_PORT, or let the system choose one",
    ),
    (
        ("invalid usage", "duplicate gpu"),
        "two ranks may use the same GPU: call torch.cuda.set_device(LOCAL_RANK) first",
    ),
    (
        ("SIGSEGV", "SIGABRT"),
        "native code crashed; PYTHONFAULTHANDLER=1 writes the Python stack into the log",
    ),
    (("SIGKILL",), "somebody or the system killed it; `dmesg` tells whether memory had run out"),
)


def is_abort(kind: str, message: str) -> bool:
    """Whether an error only says that a peer was gone.

    Args:
        kind: the exception's class; empty where the text is a log.
        message: its text.
    """
    text = message.lower()
    if kind in _OF_THE_GROUP:
        return not any(words in text for words in _OWN_FAULTS)
    return any(words in text for words in _ABORTS) and kind not in ("BrokenPipeError", "ConnectionResetError")


def is_loader(account: Mapping[str, Any]) -> bool:
    """Whether a batch broke off on its way from a worker of torch's DataLoader: it died while it sent it."""
    return account["type"] in _BROKEN_OFF and "torch/multiprocessing/reductions.py" in account.get(
        "traceback", ""
    )


def is_memory(account: Mapping[str, Any]) -> bool:
    """Whether a rank's account tells of memory that could not be had, on the GPU or of the process."""
    links = account.get("chain") or [[account["type"], account["message"]]]
    return any(kind in _MEMORY_KINDS or _NO_MEMORY in message for kind, message in links)


def hint_for(kind: str, message: str) -> str:
    """What to do about it; empty where nothing general can be said.

    Args:
        kind: the exception's class or the signal's name.
        message: its text.
    """
    text = f"{kind} {message.lower()} {kind.lower()}"
    return next((hint for words, hint in _HINTS if any(word in text for word in words)), "")


def kind_of(account: dict[str, Any] | None) -> tuple[str, str] | None:
    """What makes two failures the same: class and place."""
    return None if account is None else (str(account["type"]), str(account["where"]))
