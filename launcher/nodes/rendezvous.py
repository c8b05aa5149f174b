"""How the nodes of a launch find each other: node 0 listens, the others come, and all see whether all are reached.

The secret that they know each other by is ``$LOCKSTEP_KEY``, else one that node 0 writes into the run folder, which
this user alone can read; there it says, too, where it listens, so that on shared storage no address need be given.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from ...data.common import LockstepError, MachineError, atomic_replacement, boot_id, error_from_json
from ..console import print_messages
from ..options import NodeOptions, place_text
from ..worlds import heed_refusal
from .acceptor import Acceptor
from .arrivals import Arrivals, Hello, refuse_node
from .handshake import LinkError
from .network_interfaces import interface_addresses, reachable_addresses
from .node_layout import NodeLayout
from .peer_link import PeerLink, connect_to_leader
from .reachability import REACH_SECONDS, open_probe, unreachable_addresses

_FILE = ".meeting.json"
_NOTE_SECONDS = 2.0
_PATIENCE_SECONDS = 600.0
_TRY_SECONDS = (0.25, 0.5, 1.0, 2.0, 5.0)
"""For each try, in turn: where many connect, the kernel ignores some, and another try helps."""
_STEP_SECONDS = 0.02
_NAME_SECONDS = 60.0
_BACKLOG = 256  # a longer queue would only be a longer wait for a node behind many others


def rendezvous_key() -> bytes | None:
    """Return the secret that the user has set; None without one."""
    key = os.environ.get("LOCKSTEP_KEY", "")
    return key.encode() if key else None


@contextmanager
def open_rendezvous(nodes: NodeOptions, folder: Path) -> Iterator[tuple[list[socket.socket], bytes, str]]:
    """Open node 0's listening sockets; yield them, the secret, and a word that proves to see the same run folder."""
    secret = rendezvous_key() or secrets.token_hex(16).encode()
    listening, word = _listen(nodes), secrets.token_hex(8)
    try:
        places = [listener.getsockname()[:2] for listener in listening]
        document = {"places": places, "word": word, "boot": boot_id()}
        if rendezvous_key() is None:
            document["secret"] = secret.decode()
        with atomic_replacement(folder / _FILE, folder / f"{_FILE}.{os.getpid()}") as temporary:
            temporary.touch(0o600)
            temporary.write_text(json.dumps(document), encoding="utf-8")
        yield listening, secret, word
    finally:
        for listener in listening:
            listener.close()
        if _read(folder).get("word") == word:  # nobody else can come: the secret need not stay
            (folder / _FILE).unlink(missing_ok=True)


def _listen(nodes: NodeOptions) -> list[socket.socket]:
    """Listen on the given address only; without one on each of this machine's, until the others have come."""
    if not nodes.rendezvous:
        return [_bound(host, 0) for host in reachable_addresses()]
    host, port = nodes.address()
    try:
        return [_bound(_resolved(host, port, _NAME_SECONDS if nodes.start else 0.0), port)]
    except OSError as error:
        own = ", ".join(address for _, address in interface_addresses())
        raise MachineError(
            f"--rendezvous {nodes.rendezvous}: this node cannot listen there: {error.strerror or error}",
            f"on node 0 it has to be an address of its own ({own}) and a free port",
        ) from error


def _resolved(host: str, port: int, patience: float) -> str | int:
    """Resolve a name of this node's own, which a starter has made up, and may only be about to announce."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]
        except socket.gaierror:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_STEP_SECONDS)


def _bound(host: str | int, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in str(host) else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.listen(_BACKLOG)
    listener.settimeout(0)
    return listener


def await_followers(
    nodes: NodeOptions, folder: Path, about: dict[str, Any], processes: int
) -> tuple[dict[int, PeerLink], NodeLayout]:
    """Wait for the other nodes, as node 0; return the links to them, and what all have agreed on.

    Args:
        nodes: how many there are.
        folder: of the run.
        about: what has to be the same on every node, such as the version.
        processes: of this node.

    Raises:
        MachineError: one has not come in time, or one cannot reach another.
    """
    arrivals = Arrivals(nodes, about)
    with open_rendezvous(nodes, folder) as (listening, secret, word), closing(arrivals):
        notice = _WaitNotice(lambda: _missing(nodes, arrivals.links, listening))
        with Acceptor(listening, secret, lambda note: print_messages([f"note: {note}"])) as acceptor:
            while len(arrivals.links) < nodes.count - 1:
                arrivals.hear(acceptor.accept(_STEP_SECONDS))
                notice.check()
    links, hellos = arrivals.links, arrivals.hellos
    layout = NodeLayout(
        folder.name,
        (processes, *(hellos[node].processes for node in range(1, nodes.count))),
        links[1].local_address,
        (socket.gethostname(), *(hellos[node].host for node in range(1, nodes.count))),
        all(hello.word == word for hello in hellos.values()),
    )
    _see_whether_all_are_reached(links, layout, hellos)
    return links, layout


def _missing(nodes: NodeOptions, links: dict[int, PeerLink], listening: list[socket.socket]) -> str:
    missing = [node for node in range(1, nodes.count) if node not in links]
    places = [place_text(*listener.getsockname()[:2]) for listener in listening]
    names = f"node{'s' * (len(missing) != 1)} {', '.join(map(str, missing))} of {nodes.count}"
    return f"{names}, which can reach this one at {', '.join(places)}"


class _WaitNotice:
    """A wait for another node: it says after two seconds for whom, and gives up after ten minutes."""

    def __init__(self, whom: Callable[[], str]) -> None:
        self._whom = whom
        self._began = time.monotonic()
        self._said = False

    def check(self) -> None:
        waited = time.monotonic() - self._began
        if waited > _PATIENCE_SECONDS:
            raise MachineError(
                f"waited {_PATIENCE_SECONDS / 60:.0f} minutes for {self._whom()}",
                "start it there with the same command and its own --node-rank, and see that no firewall is between",
            )
        if waited > _NOTE_SECONDS and not self._said:
            self._said = True
            print_messages([f"waiting for {self._whom()}"])


def _see_whether_all_are_reached(
    links: dict[int, PeerLink], layout: NodeLayout, hellos: dict[int, Hello]
) -> None:
    """Have every node try every other one: a firewall between two of them would otherwise show as a hang."""
    with open_probe(layout.address) as own:
        places = {0: own, **{node: hello.probe for node, hello in hellos.items()}}
        for node, link in links.items():
            link.send("reach", places={str(n): place for n, place in places.items() if n != node})
        failed = {0: unreachable_addresses({str(n): place for n, place in places.items() if n != 0})}
        for node, link in links.items():
            reply = _next(link, "reached", 2 * REACH_SECONDS)
            failed[node] = reply["failed"] if reply else [[0, layout.address, "it did not answer"]]
    for node, rows in failed.items():
        for other, place, why in rows:
            error = MachineError(
                f"node {node} ({layout.hosts[node]}) cannot reach node {other}"
                f" ({layout.hosts[int(other)]}) at {place}: {why}",
                "ranks connect to each other on any port: let no firewall stand between the nodes",
            )
            for link in links.values():
                refuse_node(link, error)
            raise error


def _next(link: PeerLink, kind: str, seconds: float) -> dict[str, Any] | None:
    """Return the next message of this kind, if it comes in time."""
    deadline = time.monotonic() + seconds
    while not link.closed and time.monotonic() < deadline:
        if (message := link.take(kind)) is not None:
            return message
        time.sleep(_STEP_SECONDS)
    return None


def join_leader(
    nodes: NodeOptions, find: Callable[[], Path | None], about: dict[str, Any], processes: int
) -> tuple[PeerLink, NodeLayout]:
    """Find node 0 and join it; return the link to it, and what all nodes have agreed on.

    Args:
        nodes: which node this is.
        find: the run folder, if this node sees it yet.
        about: what has to be the same on every node.
        processes: of this node.

    Raises:
        MachineError: node 0 cannot be reached.
        LockstepError: node 0 has refused this node, or another one cannot be reached.
    """
    link, word = _find_leader(nodes, find)
    with open_probe(link.local_address) as probe:
        link.send(
            "hello",
            node=nodes.rank,
            nodes=nodes.count,
            about=about,
            processes=processes,
            host=socket.gethostname(),
            word=word,
            probe=probe,
        )
        reach = await_message(link, "reach")
        link.send("reached", failed=unreachable_addresses(reach["places"]))
        layout = await_message(link, "layout")  # until then others may still try to reach this node
    processes_of_all, hosts = tuple(layout["processes"]), tuple(layout["hosts"])
    return link, NodeLayout(layout["run"], processes_of_all, layout["address"], hosts, layout["shared"])


def await_message(link: PeerLink, kind: str) -> dict[str, Any]:
    """Wait for the next message of this kind, however long it takes.

    Raises:
        LockstepError: node 0 has ended the launch, or is gone.
    """
    while True:
        message = link.take(kind, "end")
        if message is not None and message["kind"] == "end":
            raise error_from_message(message)
        if message is not None:
            return message
        if link.closed:
            raise MachineError(f"node 0 is gone: {link.closed}", "its own words say why")
        time.sleep(_STEP_SECONDS)


def error_from_message(message: dict[str, Any]) -> LockstepError:
    """Return the error that node 0 has sent."""
    error = error_from_json(message["error"] or {})
    error.exit_status = int(message["exit_code"])
    return error


def _find_leader(nodes: NodeOptions, find: Callable[[], Path | None]) -> tuple[PeerLink, str]:
    """Connect to node 0, trying until it is there; return the link, and the word in the run folder if that is seen."""
    why, began = "it has not said yet where it is", time.time()
    notice = _WaitNotice(lambda: f"node 0 of {nodes.count}: {why}")
    for seconds in itertools.cycle(_TRY_SECONDS):
        heed_refusal(nodes, began)
        folder = find()
        document = _read(folder) if folder else {}
        secret = rendezvous_key() or str(document.get("secret", "")).encode()
        places = [nodes.address()] if nodes.rendezvous else _places(document)
        for host, port in places if secret else []:
            try:
                return connect_to_leader((host, port), secret, seconds), _word_in(find())
            except socket.gaierror as error:
                if nodes.start:  # a pod's name is known a few seconds after it was started
                    why = f"{host}: {error.strerror}"
                    continue
                raise MachineError(
                    f"--rendezvous {nodes.rendezvous}: {host}: {error.strerror}", "give an address instead"
                ) from error
            except (OSError, LinkError) as error:
                why = f"{place_text(host, port)}: {getattr(error, 'strerror', None) or error}"
        notice.check()
        time.sleep(_STEP_SECONDS)
    raise AssertionError  # the wait has an end of its own


def _word_in(folder: Path | None) -> str:
    """Read the word in the run folder once node 0 has answered: it listens a moment before it has written it."""
    return str(_read(folder).get("word", "")) if folder else ""


def _places(document: dict[str, Any]) -> list[tuple[str, int]]:
    """Return where node 0 listens; on its own machine that is its loopback address, which is of no use elsewhere."""
    here = document.get("boot") == boot_id()
    places = [(str(host), int(port)) for host, port in document.get("places", ())]
    local = [place for place in places if place[0] in ("127.0.0.1", "::1")]
    return local if here else [place for place in places if place not in local]


def _read(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        document = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        if isinstance(document, dict):
            return document
    return {}
