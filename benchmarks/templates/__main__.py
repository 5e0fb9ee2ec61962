"""Render ten conversations by every chat template of some folders, and count what comes of it.

The folders are unpacked wheels: `pip download trl axolotl --no-deps -d wheels`, then unzip each.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.common import parser, print_result, say
from benchmarks.templates.comparison import compare
from benchmarks.templates.conversations import CONVERSATIONS


def main() -> None:
    command = parser("templates", str(__doc__).partition("\n")[0], "wheels/trl wheels/axolotl")
    command.add_argument("folders", nargs="+", type=Path, help="folders that hold .jinja files, at any depth")
    paths = sorted(path for folder in command.parse_args().folders for path in folder.rglob("*.jinja"))
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in CONVERSATIONS}
    for path in paths:
        for name in CONVERSATIONS:
            outcome, why = compare(path, name)
            outcomes[name][outcome] += 1
            if outcome.isupper() or outcome.startswith("refused:"):
                say(f"{path.name}, {name}: {outcome}: {why[:300]!r}")
    print_result(
        {
            "benchmark": "templates",
            "templates": len(paths),
            "all": dict(sum(outcomes.values(), Counter()).most_common()),
            "by_conversation": {name: dict(counts.most_common()) for name, counts in outcomes.items()},
        }
    )


if __name__ == "__main__":
    main()
