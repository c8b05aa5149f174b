"""`launch slurm-sandbox`: a real SLURM with two nodes on one machine."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import commands as commands
else:
    __getattr__ = lazy_exports(__name__)
