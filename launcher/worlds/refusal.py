"""How the tasks of a started world learn that task 0 has refused it before they have met: by a file beside the run.

Nobody sits at task 0 to end the others, and srun does not; they would wait for it for ten minutes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ...data.common import LockstepError, error_from_json, os_error_for_users, write_json
from ..options import NodeOptions

_CLOCKS_SECONDS = 10.0
"""What is older than this process by more is of an earlier start; tasks start, and clocks differ, by less."""


@contextmanager
def announce_refusals(nodes: NodeOptions) -> Iterator[None]:
    """Tell the other tasks if this one, being task 0, ends with an error."""
    if nodes.refusal is None or not nodes.is_leader or nodes.count == 1:
        yield
        return
    with suppress(OSError):
        nodes.refusal.unlink(missing_ok=True)
    try:
        yield
    except (LockstepError, OSError) as error:
        shown = os_error_for_users(error) if isinstance(error, OSError) else error
        document = {"start": nodes.start, "error": shown.to_json(), "exit_code": shown.exit_status}
        with suppress(OSError):
            nodes.refusal.parent.mkdir(parents=True, exist_ok=True)
            write_json(nodes.refusal, document)
        raise


def heed_refusal(nodes: NodeOptions, began: float) -> None:
    """Raise the error with which task 0 of the same start has ended.

    Args:
        nodes: which task this is.
        began: when it began to wait, by the wall clock.

    Raises:
        LockstepError: task 0 has.
    """
    if nodes.refusal is None:
        return
    with suppress(OSError, ValueError, KeyError):
        document = json.loads(nodes.refusal.read_text(encoding="utf-8"))
        if document["start"] == nodes.start and nodes.refusal.stat().st_mtime > began - _CLOCKS_SECONDS:
            said = document["error"]
            error = error_from_json({**said, "message": f"node 0 has ended: {said['message']}"})
            error.exit_status = int(document["exit_code"])
            raise error
