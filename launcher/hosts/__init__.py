"""One command for several hosts: it starts a node on each by ssh, and ends with them."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .request import HostsRequest as HostsRequest
    from .request import launch_on_hosts as launch_on_hosts
else:
    __getattr__ = lazy_exports(__name__)
