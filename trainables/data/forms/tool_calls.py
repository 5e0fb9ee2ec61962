"""Definitions of tools and calls of them, in the forms that data sets have, turned into the one that templates take."""

from __future__ import annotations

import json
from typing import Any

from trainables.data.json_lines import DECODER

Definition = dict[str, Any]


def read_json(value: Any) -> Any:
    """Parses a text that holds JSON; other values are returned as they are.

    Raises:
        ValueError: The text is no JSON.
    """
    try:
        return DECODER.decode(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise ValueError("text that is no JSON") from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def tool_definitions(value: Any) -> list[Definition] | None:
    """Reads definitions of tools: OpenAI's, bare functions, JSON text of either, or JSON text in their parameters.

    Raises:
        ValueError: They are no list of definitions with a name each.
    """
    found = read_json(value) if not isinstance(value, str) or value.strip() else None
    if isinstance(found, dict):
        found = [found]
    if not found:
        return None
    if not isinstance(found, list):
        raise ValueError("no list of definitions")
    return [_definition(read_json(one)) for one in found]


def _definition(value: Any) -> Definition:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        return {"type": "function", **value, "function": _function(value["function"])}
    return {"type": "function", "function": _function(value)}


def _function(value: Any) -> Definition:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError("a definition without a name")
    # Anthropic and MCP have names of their own for the parameters.
    names = dict.fromkeys(("input_schema", "inputSchema"), "parameters")
    value = {names.get(key, key): part for key, part in value.items() if not (key == "type" and part == "function")}
    # Axolotl's advice for data sets whose tools have parameters of different types.
    return value | {key: read_json(value[key]) for key in ("parameters",) if isinstance(value.get(key), str)}


def tool_calls(value: Any) -> list[dict[str, Any]]:
    """Reads calls: OpenAI's, bare `{"name", "arguments"}`, one or a list, or JSON text of these.

    Each call that is returned has `function`, whose `arguments` are an object.

    Raises:
        ValueError: A call has no name, or its arguments are no object.
    """
    found = read_json(value)
    found = [found] if isinstance(found, dict) else found
    if not isinstance(found, list):
        raise ValueError("no object")
    return [_call(read_json(one)) for one in found]


def _call(value: Any) -> dict[str, Any]:
    inner = value.get("function") if isinstance(value, dict) else None
    call = inner if isinstance(inner, dict) else value
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise ValueError("no name")
    # Anthropic and some others say `input` or `parameters`.
    given = next((call[key] for key in ("arguments", "input", "parameters") if call.get(key) is not None), "")
    arguments = read_json(given) if not isinstance(given, str) or given.strip() else {}
    if not isinstance(arguments, dict):
        raise ValueError("arguments that are no JSON object")
    outer = {key: value[key] for key in ("id",) if value.get(key) is not None}
    return {**outer, "type": "function", "function": {"name": call["name"], "arguments": arguments}}
