"""Ranks that come and go while a run trains: the group is formed anew, and who joins takes the state from a rank."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .elastic_world import ElasticWorld as ElasticWorld
    from .elastic_world import join_world as join_world
else:
    __getattr__ = lazy_exports(__name__)
