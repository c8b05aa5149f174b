"""Checks of the GPUs, as nvidia-smi shows them: errors of their memory, clocks that are held down, other processes."""

from __future__ import annotations

from collections.abc import Iterator

from .bounded import tool_output
from .finding import FAIL, PASS, WARN, Finding

_SECONDS = 5.0
_THROTTLES = ("hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown")
_FIELDS = (
    "index",
    "name",
    "driver_version",
    "temperature.gpu",
    "memory.used",
    "memory.total",
    "ecc.errors.uncorrected.volatile.total",
    *(f"clocks_throttle_reasons.{reason}" for reason in _THROTTLES),
)


def gpus() -> Iterator[Finding]:
    """Look at each GPU of this machine."""
    fix = "reset the GPU or restart the machine: the driver hangs, as after an Xid error (see dmesg)"
    try:
        out = tool_output(
            ["nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"], _SECONDS
        )
        if out is None:
            yield Finding("GPUs", PASS, "no nvidia-smi here: a machine without NVIDIA GPUs")
            return
        users = tool_output(["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"], _SECONDS)
    except TimeoutError as error:
        yield Finding("GPUs", FAIL, str(error), fix)
        return
    except OSError as error:
        yield Finding("GPUs", FAIL, str(error), "load or repair the driver: `nvidia-smi` has to work first")
        return
    rows = [dict(zip(_FIELDS, map(str.strip, line.split(",")), strict=False)) for line in out.splitlines()]
    for row in rows:
        yield _gpu(row)
    yield _users((users or "").split())


def _gpu(row: dict[str, str]) -> Finding:
    name = f"GPU {row.get('index', '?')}"
    errors = row.get("ecc.errors.uncorrected.volatile.total", "")
    held = [reason for reason in _THROTTLES if row.get(f"clocks_throttle_reasons.{reason}") == "Active"]
    said = (
        f"{row.get('name', '')}, {row.get('memory.used', '?')} of {row.get('memory.total', '?')} MiB in use"
    )
    said += f", {row.get('temperature.gpu', '?')} C, driver {row.get('driver_version', '?')}"
    values = {"driver": row.get("driver_version"), "ecc_errors": errors or None, "throttled_by": held}
    if errors.isdigit() and int(errors):
        fix = "drain the machine and reset the GPU (`nvidia-smi --gpu-reset`); replace it if errors return"
        return Finding(name, FAIL, f"{errors} uncorrected memory errors; {said}", fix, values)
    if held:
        fix = "look at cooling and power: this GPU is slower than the others, and all wait for it"
        return Finding(name, WARN, f"its clock is held down ({', '.join(held)}); {said}", fix, values)
    return Finding(name, PASS, said, "", values)


def _users(pids: list[str]) -> Finding:
    if not pids:
        return Finding("GPU processes", PASS, "none")
    fix = "`--gpus idle` takes those that nobody uses; `nvidia-smi` shows whose the others are"
    return Finding("GPU processes", WARN, f"{len(pids)} use the GPUs already", fix, {"pids": pids})
