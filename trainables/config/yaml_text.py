"""YAML as a config's file and overrides hold it: values, and what was written for each of them."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

import yaml

from trainables.config.fields import Place, dotted
from trainables.errors import UserError, UserErrors

MOST_VALUES = 100_000  # aliases included: a few lines of them can stand for billions of values
TAG = "tag:yaml.org,2002:"
MERGE, TEXT = f"{TAG}merge", f"{TAG}str"
KNOWN_TAGS = {f"{TAG}{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}


# By a part of the parser's message, the first counts: what has most often led to it.
REMEDIES = {
    "mapping values are not allowed": "quote a text that holds a colon; behind a key's colon stands a space",
    "character '\\t'": "write spaces in place of the tab",
    "cannot start any token": "quote a text that begins so",
    "could not find expected ':'": "put a space behind the colon",
    "alias": "define that anchor, or quote a text that begins with *",
    "unknown tag !": "quote a text that begins with !",
    "quoted scalar": "close the quotation marks",
    "but found '<scalar>'": "quote the whole text",
}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without what nobody means: 016 for 14 (octal), 1:30 for 90, dates, `=`."""

    yaml_implicit_resolvers: ClassVar = {
        first: [
            (tag, pattern)
            for tag, pattern in rules
            if tag.rpartition(":")[2] not in ("int", "float", "timestamp", "value")
        ]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_WHOLE = r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0b[01][01_]*)$"
# 1e-3, without the dot that YAML 1.1 asks for, is a number as everywhere else.
_FRACTION = r"[-+]?(?:(?:0|[1-9][0-9_]*)?\.[0-9][0-9_]*|(?:0|[1-9][0-9_]*)\.?)(?:[eE][-+]?[0-9]+)?$"
_NOT_FINITE = r"[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(_WHOLE), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(f"{_FRACTION}|{_NOT_FINITE}"), list("-+0123456789.")
)


def compose(text: str, where: str) -> yaml.Node:
    """Parses a YAML text; an empty one is null.

    Raises:
        UserError: It is not YAML; the error says where.
        UserErrors: Keys are no texts, or are given twice.
    """
    try:
        root = yaml.compose(_without_tabs(text), Loader=_Loader) or yaml.ScalarNode("tag:yaml.org,2002:null", "")
        checks = _Checks(where)
        size = checks.size(root, ())
    except yaml.MarkedYAMLError as error:
        fault = _fault(error)
        remedy = next((remedy for sign, remedy in REMEDIES.items() if sign in fault), "mend that place")
        raise UserError(where, "must be valid YAML", fault, remedy) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        got = f"the character U+{ord(text[error.position]):04X} in line {line}"
        raise UserError(where, "must be valid YAML", got, "remove that character") from None
    except yaml.YAMLError as error:
        raise UserError(where, "must be valid YAML", str(error), "mend that place") from None
    except RecursionError:
        raise UserError(where, "must be valid YAML", "brackets too deep to read", "mend that place") from None
    if size > MOST_VALUES:
        got = f"aliases that stand for {size:,} values" if size < 10**12 else "aliases that stand for too many"
        raise UserError(where, f"must hold {MOST_VALUES:,} values at most", got, "write fewer aliases")
    if checks.mistakes:
        raise UserErrors(checks.mistakes)
    return root


def _without_tabs(text: str) -> str:
    """JSON, which is YAML but for its tabs, with spaces in their place."""
    if "\t" not in text or not text.lstrip().startswith("{"):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text.replace("\t", " ")  # no text of valid JSON holds one unescaped


def values_of(node: yaml.Node, where: str) -> Any:
    """Returns the values of a parsed text: dicts, lists, texts, numbers, booleans, None.

    Raises:
        UserError: A value has a tag that is unknown here, or is no number of its kind.
    """
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise UserError(where, "must be valid YAML", _fault(error), "mend that place") from None
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        # A tag that the value doesn't fit, such as `!!int` without digits.
        raise UserError(where, "must be valid YAML", str(error), "mend that place") from None


def written_at(node: yaml.Node, place: Place) -> str | None:
    """What was written for the value at a place, such as `no` for False; None where that is not one plain value."""
    for part in place:
        found = _child(node, str(part))
        if found is None:
            return None
        node = found
    return node.value if isinstance(node, yaml.ScalarNode) else None


def is_quoted(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style in ("'", '"')


class _Checks:
    """Checks each node once, however many aliases name it."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.mistakes: list[UserError] = []
        self.sizes: dict[int, int] = {}

    def size(self, node: yaml.Node, place: Place) -> int:
        """Number of values below a node, aliases counted each time."""
        if id(node) in self.sizes:
            if self.sizes[id(node)] == 0:
                raise yaml.MarkedYAMLError(problem="an alias within its own anchor", problem_mark=node.start_mark)
            return self.sizes[id(node)]
        self.sizes[id(node)] = 0
        if node.tag not in KNOWN_TAGS:
            raise yaml.MarkedYAMLError(problem=f"the unknown tag {node.tag}", problem_mark=node.start_mark)
        total = 1
        if isinstance(node, yaml.SequenceNode):
            total += sum(self.size(item, (*place, number)) for number, item in enumerate(node.value))
        elif isinstance(node, yaml.MappingNode):
            first_lines: dict[str, int] = {}
            for key, value in node.value:
                inner = (*place, str(key.value)) if isinstance(key, yaml.ScalarNode) else place
                self._check_key(key, inner, first_lines)
                total += self.size(value, inner)
        self.sizes[id(node)] = total
        return total

    def _check_key(self, key: yaml.Node, place: Place, first_lines: dict[str, int]) -> None:
        if key.tag == MERGE:
            return
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            self._add(place, "a key must be a text", f"a list or mapping in line {line}", "name the key")
            return
        if key.tag != TEXT:
            got = f"{key.value or 'nothing'} in line {line}, which YAML reads as {kind_of(key)}"
            self._add(place, "a key must be a text", got, f'quote it: "{key.value}"')
        if key.value in first_lines:
            got = f"{key.value} in lines {first_lines[key.value]} and {line}"
            self._add(place, "must be valid YAML: a key may stand once", got, "leave one out")
        first_lines.setdefault(key.value, line)

    def _add(self, place: Place, rule: str, got: str, remedy: str) -> None:
        self.mistakes.append(UserError(dotted(place) or self.where, rule, got, remedy))


def kind_of(node: yaml.ScalarNode) -> str:
    """What YAML reads a plain value as, in words."""
    tag = node.tag.rpartition(":")[2]
    if tag == "bool":
        return "true" if node.value.lower() in ("yes", "true", "on") else "false"
    return {"null": "null", "int": "a number", "float": "a number"}.get(tag, tag)


def _child(node: yaml.Node, part: str) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode) and part.isdecimal():
        return node.value[int(part)] if int(part) < len(node.value) else None
    if not isinstance(node, yaml.MappingNode):
        return None
    merged = None
    for key, value in reversed(node.value):  # the last counts: reading has put merged keys before a mapping's own
        if key.tag == MERGE:
            sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
            merged = merged or next((found for one in sources if (found := _child(one, part))), None)
        elif isinstance(key, yaml.ScalarNode) and key.value == part:
            return value
    return merged


def _fault(error: yaml.MarkedYAMLError) -> str:
    # A key without its colon is found missing only in the line below.
    mark = error.context_mark if error.context == "while scanning a simple key" else None
    mark = mark or error.problem_mark or error.context_mark
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{' '.join(filter(None, (error.context, error.problem)))}{where}"
