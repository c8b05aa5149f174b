"""What users see of all hosts' launches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from lockstep.launcher.hosts.connection import Connection
from lockstep.launcher.hosts.frames import ERR, OUT
from lockstep.launcher.hosts.host_outputs import HostOutputs, host_label
from lockstep.launcher.supervisor.live_view import LiveView

CARD = b"error: rank 2 of 3: ValueError: no\n  at x.py:3\nhint: look\n"


@dataclass
class _Node:
    node: int


def show(*printed: tuple[int, int, bytes]) -> HostOutputs:
    outputs = HostOutputs(LiveView(host_label(["a", "b", "c"])))
    for node, stream, data in printed:
        outputs.take(cast("Connection", _Node(node)), stream, data)
    outputs.close()
    return outputs


def test_node_0_is_shown_byte_for_byte_and_others_with_their_name(capfd: pytest.CaptureFixture[str]) -> None:
    show((0, OUT, b"a \x1b[1mline\r"), (0, ERR, b"note"), (1, OUT, b"from b\nand"), (1, OUT, b" more"))
    out, err = capfd.readouterr()
    assert out == "a \x1b[1mline\r"
    assert err == "note[b] from b\n[b] and more\n"


def test_a_rank_s_number_says_enough_and_what_several_hosts_say_is_shown_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    show((1, ERR, b"[rank 1] loss 3\n"), (2, ERR, b"[ranks 2-3] loss 4\nwaiting\n"), (1, ERR, b"waiting\n"))
    assert capfd.readouterr().err.splitlines() == ["[rank 1] loss 3", "[ranks 2-3] loss 4", "[b, c] waiting"]


def test_the_cards_of_other_nodes_are_kept_for_later(capfd: pytest.CaptureFixture[str]) -> None:
    outputs = show(
        (1, ERR, b"before\n" + CARD), (2, ERR, b"ended as node 0 did, with status 1\n"), (0, ERR, CARD)
    )
    assert capfd.readouterr().err.replace(CARD.decode(), "") == "[b] before\n"
    assert outputs.card(1) == CARD.decode().splitlines()
    assert outputs.card(2) == []
    assert outputs.card(0) == outputs.card(1)
