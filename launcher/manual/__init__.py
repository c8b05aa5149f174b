"""The help: its pages, what a shell completes, and the schemas of what `--json` prints."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .completion import completion_script as completion_script
    from .completion import install_completion as install_completion
    from .completion import start_completion as start_completion
    from .output_schemas import commands_with_schemas as commands_with_schemas
    from .output_schemas import for_agents as for_agents
    from .output_schemas import output_schema as output_schema
    from .pages import command_page as command_page
    from .pages import group_page as group_page
else:
    __getattr__ = lazy_exports(__name__)
