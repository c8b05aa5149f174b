"""The proof that both ends of a connection know the same secret: three messages of a fixed length, nothing to parse.

The follower proves it first, so that node 0 answers nobody who does not know the secret, and can tell at once whom to
turn away. That proof could be recorded and sent again; the two that follow cannot, because each covers a number that
the other side has just drawn::

    follower  magic, its number, proof of that number
    node 0    its number, proof of both
    follower  proof of both, in another role

What comes after them is the link's, whose key is made of the secret and both numbers. No socket is in here.
"""

from __future__ import annotations

import hmac
import secrets

_MAGIC = b"LOCKSTEP link 2\n"
_NUMBER_BYTES = 16
_PROOF_BYTES = 32
OPENING_BYTES = len(_MAGIC) + _NUMBER_BYTES + _PROOF_BYTES
ANSWER_BYTES = _NUMBER_BYTES + _PROOF_BYTES
CLOSING_BYTES = _PROOF_BYTES


class LinkError(Exception):
    """The failure of a handshake: the other side does not know the secret, or is not a node of a launch."""


class LeaderHandshake:
    """Node 0's part.

    Args:
        secret: which both know.
        seen: the followers' numbers so far, each of which counts once; it is shared by all of a launch's handshakes.
    """

    def __init__(self, secret: bytes, seen: set[bytes]) -> None:
        self._secret = secret
        self._seen = seen
        self._mine = self._theirs = b""
        self.wanted = OPENING_BYTES
        """The length of the message that comes next; 0 once the secret is proven."""
        self.key = b""
        """Of the link; empty until the secret is proven."""

    @property
    def is_opened(self) -> bool:
        """Whether the other side has shown a proof that only a node of this launch can have made."""
        return bool(self._theirs)

    def check_beginning(self, heard: bytes) -> None:
        """Look at the part of the next message that is there.

        Raises:
            LinkError: it will prove nothing.
        """
        if not self.is_opened and heard[: len(_MAGIC)] != _MAGIC[: len(heard)]:
            raise LinkError("it says nothing that a node would say")

    def take(self, message: bytes) -> bytes:
        """Take the next message, whole; return what to answer.

        Raises:
            LinkError: it proves nothing.
        """
        if not self.is_opened:
            return self._open(message)
        _prove(message, self._secret, b"follower", self._mine, self._theirs)
        self.wanted, self.key = 0, _proof(self._secret, b"link", self._mine, self._theirs)
        return b""

    def _open(self, message: bytes) -> bytes:
        number, proof = message[len(_MAGIC) : -_PROOF_BYTES], message[-_PROOF_BYTES:]
        self.check_beginning(message)
        _prove(proof, self._secret, b"opening", number)
        if number in self._seen:
            raise LinkError("it repeats what another has said")
        self._seen.add(number)
        self._mine, self._theirs = secrets.token_bytes(_NUMBER_BYTES), number
        self.wanted = CLOSING_BYTES
        return self._mine + _proof(self._secret, b"leader", self._mine, self._theirs)


class FollowerHandshake:
    """Another node's part: it sends ``opening``, reads ``ANSWER_BYTES``, and sends what ``take`` returns."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._mine = secrets.token_bytes(_NUMBER_BYTES)
        self.opening = _MAGIC + self._mine + _proof(secret, b"opening", self._mine)
        """The first message."""
        self.key = b""
        """Of the link; empty until node 0 has proven that it knows the secret."""

    def take(self, answer: bytes) -> bytes:
        """Take node 0's answer; return the last message.

        Raises:
            LinkError: it proves nothing.
        """
        theirs, proof = answer[:_NUMBER_BYTES], answer[_NUMBER_BYTES:]
        _prove(proof, self._secret, b"leader", theirs, self._mine)
        self.key = _proof(self._secret, b"link", theirs, self._mine)
        return _proof(self._secret, b"follower", theirs, self._mine)


def _proof(secret: bytes, role: bytes, *numbers: bytes) -> bytes:
    return hmac.digest(secret, b"\0".join((role, *numbers)), "sha256")


def _prove(given: bytes, secret: bytes, role: bytes, *numbers: bytes) -> None:
    if not hmac.compare_digest(given, _proof(secret, role, *numbers)):
        raise LinkError("it does not know the secret")
