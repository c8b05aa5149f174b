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
_TIMEOUTS = (
    "for recv operation to complete",
    "for send operation to complete",
    "collective operation timeout",
)
"""Of gloo and of NCCL's watchdog: the peers are there, but one has not come to this collective."""
_BROKEN_OFF = ("EOFError", "ConnectionResetError", "ConnectionRefusedError", "FileNotFoundError")
_MEMORY_KINDS = ("OutOfMemoryError", "MemoryError")
_NO_MEMORY = (  # torch's own allocator and CUDA's libraries raise a RuntimeError, a fork or mmap an OSError
    "can't allocate memory",
    "cannot allocate memory",
    "cuda error: out of memory",
    "cuda out of memory",
    "cublas_status_alloc_failed",
)
_KILLED_WORKER = ("is killed by signal: killed", "exited unexpectedly")
_HINTS = (
    (
        ("shared memory", "bus error", "SIGBUS"),
        "/dev/shm may be too small (docker: --shm-size), or use fewer loader workers",  # noqa: S108 - only named
    ),
    (
        ("bdbquit", "eof when reading a line"),
        "ranks have no terminal of their own: `launch run --debug SCRIPT` is one process on yours",
    ),
    (("dataloader worker",), "a worker of the DataLoader died: with num_workers=0 its own error is shown"),
    (
        ("outofmemoryerror", "cuda error: out of memory", "cuda out of memory", "cublas_status_alloc_failed"),
        "use a smaller batch per process",
    ),
    (
        ("memoryerror", "cannot allocate memory", "can't allocate memory"),
        "use fewer processes, smaller batches or fewer loader workers",
    ),
    (
        _TIMEOUTS,
        "some rank did not come to this collective in time: a --hang-timeout below that time shows where it is",
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

_LOG_HINTS = (
    (
        "finished its bootstrapping phase",  # multiprocessing's words in a spawned child
        "a process that it starts by spawn imports it again: begin its work with `if __name__ == '__main__':`",
    ),
)


def is_peer_abort(kind: str, message: str) -> bool:
    """Tell whether an error only says that a peer was gone.

    Args:
        kind: the exception's class; empty where the text is a log.
        message: its text.
    """
    text = message.lower()
    if is_timeout(text):
        return True
    if kind in _OF_THE_GROUP:
        return not any(words in text for words in _OWN_FAULTS)
    return any(words in text for words in _ABORTS) and kind not in ("BrokenPipeError", "ConnectionResetError")


def is_timeout(message: str) -> bool:
    """Tell whether a collective has waited for a rank until its time limit."""
    return any(words in message.lower() for words in _TIMEOUTS)


def is_killed_worker(account: Mapping[str, Any]) -> bool:
    """Tell whether a worker of torch's DataLoader was killed, or died in a way that it could not tell."""
    texts = [message.lower() for _, message in exception_chain(account)]
    return is_dataloader_failure(account) or any(words in text for words in _KILLED_WORKER for text in texts)


def exception_chain(account: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return class and message of a rank's error and of those that it came from."""
    return [(kind, text) for kind, text in account.get("chain") or [[account["type"], account["message"]]]]


def is_dataloader_failure(account: Mapping[str, Any]) -> bool:
    """Tell whether a batch broke off on its way from a worker of torch's DataLoader: it died while it sent it."""
    return account["type"] in _BROKEN_OFF and "torch/multiprocessing/reductions.py" in account.get(
        "traceback", ""
    )


def hint_for_log(tail: str) -> str:
    """Return what to do about an error that only the end of the rank's log explains; empty where it does not."""
    return next((hint for words, hint in _LOG_HINTS if words in tail), "")


def is_out_of_memory(account: Mapping[str, Any]) -> bool:
    """Tell whether a rank's account speaks of memory that could not be had, on the GPU or of the process."""
    return any(
        kind in _MEMORY_KINDS or any(words in message.lower() for words in _NO_MEMORY)
        for kind, message in exception_chain(account)
    )


def hint_for(kind: str, message: str) -> str:
    """Return what to do about an error; empty where nothing general can be said.

    Args:
        kind: the exception's class or the signal's name.
        message: its text.
    """
    text = f"{kind} {message.lower()} {kind.lower()}"
    return next((hint for words, hint in _HINTS if any(word in text for word in words)), "")


def failure_signature(account: dict[str, Any] | None) -> tuple[str, str] | None:
    """Return what makes two failures the same: class and place."""
    return None if account is None else (str(account["type"]), str(account["where"]))
