"""Several nodes: their rendezvous, the link between them, leader and follower."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .follower import FollowerSession as FollowerSession
    from .follower import join_as_follower as join_as_follower
    from .follower import wait_until_visible as wait_until_visible
    from .leader import LeaderSession as LeaderSession
    from .leader import lead_nodes as lead_nodes
    from .network_interfaces import interface_addresses as interface_addresses
    from .network_interfaces import interface_of as interface_of
    from .network_interfaces import reachable_addresses as reachable_addresses
    from .peer_link import PeerLink as PeerLink
    from .peers import FollowerPeers as FollowerPeers
    from .peers import LeaderPeers as LeaderPeers
    from .peers import SingleNode as SingleNode
    from .reachability import REACH_SECONDS as REACH_SECONDS
    from .reachability import open_probe as open_probe
    from .rendezvous import await_message as await_message
    from .rendezvous import rendezvous_key as rendezvous_key
else:
    __getattr__ = lazy_exports(__name__)
