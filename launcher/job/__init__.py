"""Inside a SLURM job: the batch supervisor, a node's supervisor, and whether a job follows."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import batch_supervisor as batch_supervisor
else:
    __getattr__ = lazy_exports(__name__)
