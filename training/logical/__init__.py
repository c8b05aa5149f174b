"""Logical ranks: a global batch cut into parts that are added along one tree, on however many processes."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .gradient_tree import GradientTree as GradientTree
    from .gradients import Gradients as Gradients
    from .logical_buffers import LogicalBuffers as LogicalBuffers
    from .row_sums import LogicalRowSums as LogicalRowSums
    from .row_sums import RowSums as RowSums
    from .sum_tree import Node as Node
    from .sum_tree import PartialSums as PartialSums
    from .sum_tree import nodes_of_owners as nodes_of_owners
    from .tree_exchange import begin_tree_sum as begin_tree_sum
else:
    __getattr__ = lazy_exports(__name__)
