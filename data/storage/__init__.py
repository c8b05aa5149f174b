"""Storage: where the bytes of a file lie, on this machine or behind an address."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .addresses import RUN_PATIENCE as RUN_PATIENCE
    from .addresses import START_PATIENCE as START_PATIENCE
    from .addresses import RemoteFile as RemoteFile
    from .addresses import holds_credentials as holds_credentials
    from .addresses import is_address as is_address
    from .addresses import list_addresses as list_addresses
    from .local_files import LocalFile as LocalFile
else:
    __getattr__ = lazy_exports(__name__)
