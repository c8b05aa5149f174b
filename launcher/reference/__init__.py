"""Every option of a config, with its meaning: the reference, and the JSON schema for editors."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .explained_key import explain_key as explain_key
    from .explained_key import show_config as show_config
    from .json_schema import config_schema as config_schema
    from .markdown import reference as reference
    from .option_list import config_options as config_options
else:
    __getattr__ = lazy_exports(__name__)
