"""One call of one of SLURM's tools: its command, its output, and the error for a refusal."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ...data.common import MachineError

_NO_CONF = "cannot stat file"  # said once a second, for a minute
_HINTS = {
    "could not establish a configuration": "run it where the cluster's jobs are submitted, set SLURM_CONF to its"
    " slurm.conf, or start a small SLURM of your own with `launch slurm-sandbox up`",
    _NO_CONF: "there is no such slurm.conf here: set SLURM_CONF to your cluster's, or leave it unset",
    "unable to contact slurm controller": "SLURM's controller does not answer: try `scontrol ping`",
    "timed out on send/recv": "SLURM's controller is overloaded: wait a little, and look at `squeue --me` first",
    "invalid partition": "`sinfo -s` lists the partitions",
    "requested node configuration is not available": "no nodes of this partition have that much: see `sinfo -N -l`",
    "requested time limit is invalid": "ask for less --time: `scontrol show partition` says how much there is",
    "invalid account": "name yours with --account: `sacctmgr show associations user=$USER` lists them",
    "protocol authentication error": "munge refuses: does munged run here with the cluster's key?",
    "access/permission denied": "it belongs to somebody else, or you may not use this partition",
}


_SILENCE = re.compile(
    "contact slurm controller|configuration source|timed out|connection (refused|reset|failure)|zero bytes"
    "|transport endpoint|no route to host|network is unreachable|in standby mode|temporarily unable"
    "|authentication (error|credential)|munge",
    re.IGNORECASE,
)
"""What the tools say when nothing was decided: the same request may succeed when it is repeated."""


class SlurmError(MachineError):
    """SLURM refused, or could not be asked: what was run, what it said, and what to do."""


class SlurmSilentError(SlurmError):
    """SLURM's controller could not be asked, or did not answer: what was wanted may have been done all the same."""


def _hint(said: str) -> str:
    """Return what to do about a tool's message; empty if it is not a known one."""
    return next((text for sign, text in _HINTS.items() if sign in said.lower()), "")


@dataclass(frozen=True)
class ToolResult:
    """The output of a tool, and how it ended."""

    command: tuple[str, ...]
    status: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both of its streams, to be shown to the user."""
        return "\n".join(part for part in (self.err.strip(), self.out.strip()) if part)

    def raise_for_status(self) -> ToolResult:
        """Return the result itself, unless the tool failed.

        Raises:
            SlurmError: it did.
        """
        if self.status:
            raise self.error()
        return self

    def error(self, hint: str = "", *, what: str = "") -> SlurmError:
        """Return this result as an error."""
        known = _hint(self.said)
        said = self.said or f"it said nothing, and ended with status {self.status}"
        kind = SlurmSilentError if _SILENCE.search(self.said) else SlurmError
        return kind(f"{what or shlex.join(self.command)}\n{said}", hint or known)


def run_tool(
    command: Sequence[str], given: str | None, environment: Mapping[str, str], timeout: float
) -> ToolResult:
    """Run one of SLURM's tools to its end.

    Args:
        command: the tool and its arguments.
        given: its standard input; None for none.
        environment: all of it.
        timeout: seconds.

    Raises:
        SlurmError: it is not installed, cannot be run, or does not answer in time.
    """
    try:
        tool = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        message = f"{command[0]}: {error.strerror}"
        raise SlurmError(
            message, "SLURM's tools are not on this machine: use one that jobs are submitted from"
        ) from error
    with tool:
        try:
            out, err = tool.communicate(given, timeout)
        except BaseException as error:
            _end(tool)
            if isinstance(error, subprocess.TimeoutExpired):
                raise _silent(command, timeout, _said(error)) from error
            raise
    return ToolResult(tuple(command), tool.returncode, out, err)


def _end(tool: subprocess.Popen[str]) -> None:
    """Kill a tool with all that it started: a site's wrapper script leaves its child with our pipe."""
    with suppress(ProcessLookupError):
        os.killpg(tool.pid, signal.SIGKILL)


def _said(silence: subprocess.TimeoutExpired) -> str:
    """Return what a tool printed before its time was up; it arrives as bytes, though the streams are text."""
    streams = (silence.stderr, silence.stdout)
    texts = (text.decode(errors="replace") if isinstance(text, bytes) else text or "" for text in streams)
    return "\n".join(text.strip() for text in texts if text.strip())


def _silent(command: Sequence[str], timeout: float, said: str) -> SlurmSilentError:
    hint = _hint(said) or "SLURM's controller is down or overloaded: try `scontrol ping`, and again later"
    if command[0] == "sbatch" and _NO_CONF not in said:
        hint = (
            "the job may have been submitted all the same: look at `squeue --me` before you submit it again"
        )
    lines = [shlex.join(command), f"no answer in {timeout:g} s", *said.splitlines()]
    return SlurmSilentError("\n".join(lines), hint)
