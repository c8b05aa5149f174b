"""Several nodes: their rendezvous, the link between them, leader and follower."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .follower import following as following
    from .follower import seen as seen
    from .follower_page import Followed as Followed
    from .leader import Lead as Lead
    from .leader import led as led
    from .network_interfaces import interface_of as interface_of
    from .peers import Alone as Alone
    from .peers import Follower as Follower
    from .peers import Leader as Leader
    from .rendezvous import awaited as awaited
    from .rendezvous import key_of_user as key_of_user
else:
    __getattr__ = lazy_exports(__name__)
