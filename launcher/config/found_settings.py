"""What the data has decided about settings that were left out, as comments in ``config.yaml``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import ValidationError

from ...data.common import UsageError
from ...data.config import BATCH_SIZE, DatasetInfo, FoundSetting
from ...training.config import RunConfig
from .launch_config import ResolvedConfig
from .partial_config import DEFAULT
from .yaml_text import format_value, printable

_MOST_ITEMS = 50  # of a list


def with_found(resolved: ResolvedConfig, facts: DatasetInfo) -> tuple[ResolvedConfig, DatasetInfo]:
    """Return the config with the batch size that the user's function returns, and the facts with what is in force.

    Raises:
        UsageError: other settings do not go with it.
    """
    found = next((one for one in facts.found if one.key == BATCH_SIZE), None)
    if found is None:
        return resolved, facts
    if resolved.origins.get(BATCH_SIZE) != DEFAULT:  # the config's own counts
        return resolved, replace(facts, found=tuple(one for one in facts.found if one is not found))
    document = resolved.config.model_dump(mode="json")
    document["data"]["batch_size"] = found.value
    try:
        config = RunConfig.model_validate(document)
    except ValidationError as error:
        what = error.errors(include_url=False)[0]["msg"]
        raise UsageError(f"{BATCH_SIZE}={found.value}: {found.why}, but: {what}", f"set {BATCH_SIZE}") from error
    return replace(resolved, config=config), facts


def found_yaml(found: Sequence[FoundSetting]) -> str:
    """Format what was found; as settings it would make another run of this one, so it stands in comments."""
    lines = ["#", "# Left out, and found in the data; what you set instead is used:", *map(_line, found)]
    return "\n".join((*lines, "")) if found else ""


def _line(setting: FoundSetting) -> str:
    value, more = setting.value, ""
    if isinstance(value, tuple) and len(value) > _MOST_ITEMS:
        value, more = value[:_MOST_ITEMS], f"; {len(value) - _MOST_ITEMS:,} more are in spec.json"
    return f"#   {setting.key}: {format_value(value)}  # {printable(setting.why)}{more}"
