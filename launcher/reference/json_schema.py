"""The JSON schema of a config, which editors take to complete keys and to mark mistakes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from ...data.common import field_docstrings, one_line
from ..config import LaunchConfig
from .option_list import config_models

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> dict[str, Any]:
    """Make the schema: types, limits and choices of every key, each with what it means."""
    schema = LaunchConfig.model_json_schema(mode="validation")
    definitions = schema.get("$defs", {})
    for model in config_models():
        _describe(definitions.get(model.__name__, schema), model)
    return {"$schema": DIALECT, **_without_internals(schema), "title": "Lockstep config"}


def _describe(section: dict[str, Any], model: type[BaseModel]) -> None:
    section["description"] = one_line(model.__doc__ or "")
    for key, text in field_docstrings(model).items():
        if key in section.get("properties", {}):
            section["properties"][key]["description"] = text


def _without_internals(node: Any) -> Any:
    """Leave out the declarations of SLURM's options, and titles that only repeat a key."""
    if isinstance(node, list):
        return [_without_internals(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _without_internals(value)
        for key, value in node.items()
        if key != "slurm_option" and not (key == "title" and isinstance(value, str))
    }
