"""YAML that may be damaged, or a stranger's: parsed with libyaml, within bounds on its depth, size and aliases."""

from __future__ import annotations

from typing import Any

import yaml

DEEPEST = 50  # a config nests 6 deep; libyaml's parser ends the process where it nests some 10,000 deep
MOST_NODES = 20_000  # a config has some 200

# Ten times as fast where PyYAML was built with libyaml.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ENDS = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
_NODES = (yaml.MappingStartEvent, yaml.SequenceStartEvent, yaml.ScalarEvent)


def load_bounded(text: str | bytes) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: It is no YAML in UTF-8, has an alias, or is out of bounds; the message says which.
    """
    depth = nodes = 0
    try:
        for event in yaml.parse(text, _Loader):  # events come one by one: nothing has been built yet
            if isinstance(event, yaml.AliasEvent):  # a few of them stand for gigabytes
                raise ValueError("has an alias (*name), which no config needs")
            nodes += isinstance(event, _NODES)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, _ENDS)
            if depth > DEEPEST or nodes > MOST_NODES:
                raise ValueError(f"nests deeper than {DEEPEST}, or has more than {MOST_NODES} values")
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None
