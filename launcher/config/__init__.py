"""From a recipe, a file and `key=value` to a checked config whose every value has an origin."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .error_messages import wrong_value as wrong_value
    from .found_settings import found_yaml as found_yaml
    from .launch_config import LaunchConfig as LaunchConfig
    from .launch_config import ResolvedConfig as ResolvedConfig
    from .resolution import recipes as recipes
    from .resolution import resolve as resolve
    from .resolution import to_yaml as to_yaml
    from .unknown_keys import unknown_key as unknown_key
    from .yaml_file import YamlFile as YamlFile
    from .yaml_file import listing as listing
    from .yaml_file import parse_value as parse_value
    from .yaml_file import read_yaml as read_yaml
    from .yaml_text import KeyPath as KeyPath
    from .yaml_text import dotted as dotted
    from .yaml_text import format_value as format_value
    from .yaml_text import kind_of as kind_of
    from .yaml_text import printable as printable
    from .yaml_text import shortened as shortened
else:
    __getattr__ = lazy_exports(__name__)
