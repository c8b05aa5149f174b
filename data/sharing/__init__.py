"""What a user's `data()` returns, kept as one value that all processes of a machine map."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .shared_value import NotShared as NotShared
    from .shared_value import PackedValue as PackedValue
    from .shared_value import mapped_value as mapped_value
    from .watched_call import WatchedCall as WatchedCall
    from .watched_call import watched as watched
    from .watched_call import watching as watching
else:
    __getattr__ = lazy_exports(__name__)
