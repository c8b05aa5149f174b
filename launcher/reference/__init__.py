"""Every option of a config, with its meaning: the reference, and the JSON schema for editors."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .components import find_argument as find_argument
    from .json_schema import config_schema as config_schema
    from .markdown import reference as reference
    from .option_list import ConfigOption as ConfigOption
    from .option_list import find_option as find_option
else:
    __getattr__ = lazy_exports(__name__)
