"""The proof of the secret, as bytes: no socket."""

from __future__ import annotations

import random

import pytest

from lockstep.launcher.nodes.handshake import (
    ANSWER_BYTES,
    CLOSING_BYTES,
    OPENING_BYTES,
    FollowerHandshake,
    LeaderHandshake,
    LinkError,
)
from tests.helpers.hostile_peers import hostile_bytes

SECRET = b"the secret"


def flipped(message: bytes, draw: random.Random) -> bytes:
    changed = bytearray(message)
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def test_both_sides_that_know_the_secret_have_the_same_key_which_is_another_each_time() -> None:
    keys = set()
    for _ in range(2):
        leader, follower = LeaderHandshake(SECRET, set()), FollowerHandshake(SECRET)
        assert (leader.wanted, leader.is_opened) == (len(follower.opening), False) == (OPENING_BYTES, False)
        answer = leader.take(follower.opening)
        assert (len(answer), leader.wanted, leader.is_opened, leader.key) == (
            ANSWER_BYTES,
            CLOSING_BYTES,
            True,
            b"",
        )
        assert leader.take(follower.take(answer)) == b""
        assert leader.wanted == 0
        assert leader.key == follower.key != b""
        keys.add(leader.key)
    assert len(keys) == 2


@pytest.mark.parametrize("which", ["opening", "answer", "closing"])
def test_a_message_with_one_bit_changed_proves_nothing(which: str) -> None:
    draw = random.Random(which)
    for _ in range(50):
        leader, follower = LeaderHandshake(SECRET, set()), FollowerHandshake(SECRET)
        change = {which: lambda message: flipped(message, draw)}
        opening = change.get("opening", bytes)(follower.opening)
        with pytest.raises(LinkError):  # noqa: PT012 - any of the three refuses
            answer = change.get("answer", bytes)(leader.take(opening))
            leader.take(change.get("closing", bytes)(follower.take(answer)))
        assert leader.key == b""


def test_neither_side_believes_another_secret() -> None:
    with pytest.raises(LinkError, match="does not know the secret"):
        LeaderHandshake(SECRET, set()).take(FollowerHandshake(b"another").opening)
    follower = FollowerHandshake(SECRET)
    impostor = LeaderHandshake(b"another", set())
    answer = impostor.take(FollowerHandshake(b"another").opening)
    with pytest.raises(LinkError, match="does not know the secret"):
        follower.take(answer)
    assert follower.key == b""


def test_what_was_said_before_proves_nothing_again() -> None:
    seen: set[bytes] = set()
    first, follower = LeaderHandshake(SECRET, seen), FollowerHandshake(SECRET)
    closing = follower.take(first.take(follower.opening))
    with pytest.raises(LinkError, match="repeats"):
        LeaderHandshake(SECRET, seen).take(follower.opening)
    second = LeaderHandshake(SECRET, set())  # of another launch with the same key
    second.take(follower.opening)
    with pytest.raises(LinkError):
        second.take(closing)


def test_node_0_answers_nobody_who_has_proven_nothing() -> None:
    draw = random.Random(0)
    for _ in range(300):
        said = hostile_bytes(draw)[:OPENING_BYTES]
        leader = LeaderHandshake(SECRET, set())
        with pytest.raises(LinkError):
            leader.take(said)
        assert not leader.is_opened
