"""Checks of what Lockstep talks to: SLURM's tools, W&B."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from ...training.config import requested_mode
from .bounded import tool_output
from .finding import PASS, WARN, Finding

_SECONDS = 3.0


def slurm() -> Iterator[Finding]:
    """See whether SLURM's tools are here, and whether its controller answers."""
    try:
        version = tool_output(["sinfo", "--version"], _SECONDS)
        if version is None:
            yield Finding("SLURM", PASS, "not on this machine; `launch submit` needs it, nothing else does")
            return
        answer = tool_output(["scontrol", "ping"], _SECONDS) or ""
    except TimeoutError as error:
        fix = "SLURM's controller is down or overloaded: `launch submit` would wait for it; ask who runs it"
        yield Finding("SLURM", WARN, str(error), fix)
        return
    except OSError as error:
        fix = "run it where jobs are submitted, set SLURM_CONF, or try `launch slurm-sandbox up`"
        yield Finding("SLURM", WARN, str(error), fix)
        return
    up = " is UP" in answer
    fix = "" if up else "SLURM's controller does not answer: try `scontrol ping`, and again later"
    said = f"{version.strip()}, its controller {'answers' if up else 'does not answer'}"
    yield Finding("SLURM", PASS if up else WARN, said, fix, {"version": version.strip()})


def wandb(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Say what W&B would do; a key is never shown, nor a part of it."""
    asked = requested_mode(environ)
    key = "a key" if environ.get("WANDB_API_KEY") else "no key"
    mode = f"{asked[0]}, by {asked[1]}" if asked else "online if you are logged in, else offline"
    where = environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    problem = " " in environ.get("WANDB_API_KEY", "").strip()
    fix = "WANDB_API_KEY has a space in it: set it again" if problem else ""
    said = f"{mode}; {key} in the environment, {where.partition('@')[2] or where}"
    yield Finding("W&B", WARN if problem else PASS, said, fix, {"mode": asked[0] if asked else "auto"})
