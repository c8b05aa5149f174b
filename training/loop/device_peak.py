"""The most floating-point operations per second that a GPU can do, as its maker states them, without sparsity."""

from __future__ import annotations

_TERA = 1e12
_HALF = ("bf16", "fp16")
_PEAKS = (
    # name contains, in half precision, in fp32 without TF32
    ("B200", 2250, 75),
    ("H200", 989, 67),
    ("GH200", 989, 67),
    ("H100 PCIe", 756, 51),
    ("H100 NVL", 835, 60),
    ("H100", 989, 67),
    ("A100", 312, 19.5),
    ("L40S", 362, 91.6),
    ("L4", 121, 30.3),
    ("A10G", 70, 31.2),
    ("A10", 125, 31.2),
)
"""NVIDIA's data sheets, in TFLOP/s; the first that fits counts."""


def peak_flops(name: str, precision: str) -> float | None:
    """Return the peak of a device in a precision; None where it is not known.

    Args:
        name: as torch gives it, such as ``NVIDIA H100 80GB HBM3``.
        precision: of the run.
    """
    words = f"{name.replace('-', ' ')} "
    found = next((row for row in _PEAKS if f"{row[0]} " in words), None)
    if found is None or precision not in (*_HALF, "fp32"):
        return None
    return _TERA * (found[1] if precision in _HALF else found[2])
