"""How the agent is started: its command line, its code, and what its environment says of threads and interfaces."""

from __future__ import annotations

import os
import socket
import sys

from ..process import duplicate_high

_HIGH = 200
AGENT_CODE = (
    b"import sys; sys.flags.safe_path or sys.path.pop(0); "  # a module of the user's must not shadow one of ours
    # Later the descriptor is another file, a pipe perhaps: who formats a stack must not read "its source" there.
    b"import linecache; linecache.cache[__file__] = (0, None, [], __file__); del __file__; "
    b"import lockstep.launcher.agent.rank_end; "  # what is registered first at exit is the last to be called
    b"from lockstep.launcher.agent.agent import main; sys.exit(main())"
)
"""The agent's whole code."""


def agent_argv(code: str, min_argv_bytes: int) -> list[str]:
    """Return the agent's command line, padded to the length of a rank's, which replaces it in ``ps``."""
    agent_argv = [sys.executable, "-u", code]
    missing = min_argv_bytes - sum(len(os.fsencode(part)) + 1 for part in agent_argv)
    return [*agent_argv, "." * (missing - 1)] if missing > 0 else agent_argv


def memory_descriptor(data: bytes) -> int:
    """Return a descriptor that ``data`` can be read from.

    Its number is high, so that no file or pipe of the user's gets it later: whoever looks for the source of the
    agent's frame under this name, past linecache, must find nothing. Number 9 was a pipe of the loader's.
    """
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    high = duplicate_high(reader, _HIGH)
    os.close(reader)
    return high


def bound_socket(address: str) -> socket.socket:
    """Bind a socket: node 0's becomes that of the ranks' store, the others' is not used."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, 0), family=family)


def thread_environment(threads: int) -> dict[str, str]:
    """Return variables that torch and NumPy read when imported; one node's traffic stays on the loopback interface.

    Threads that wait for work sleep instead of spinning: on a machine that something else uses as well, two
    spinning threads made a step of a small model ten times slower (1.6 ms with one thread, 18.8 ms with two).
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    loopback = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}  # another one for several nodes
    waiting = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    return {**dict.fromkeys(names, str(threads)), **loopback, **waiting}
