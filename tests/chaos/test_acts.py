"""The plan of kills: repeated by its seed, of the promised size, at places that the code has."""

import re
from pathlib import Path

import pytest

from tests.chaos.acts import NODE_BACK, five, sixty

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "".join(path.read_text() for name in ("sweeps", "trainables") for path in (ROOT / name).rglob("*.py"))
KINDS = {"worker", "controller", "dispatcher", "driver", "second node"}


def kills(acts):
    return [kill for act in acts for kill in act.kills if kill.target != NODE_BACK]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seed_repeats_a_plan_of_more_than_sixty_kills_of_every_kind(seed):
    acts, who = sixty(seed)
    assert (acts, who) == sixty(seed)
    assert acts != sixty(seed + 1)[0]
    assert len(kills(acts)) >= 60
    assert {who[kill.name] for kill in kills(acts)} >= KINDS
    acts, who = five(seed)
    assert sorted(who[kill.name] for kill in kills(acts)) == sorted(KINDS)


def test_every_place_is_in_the_code():
    written = set(re.findall(r'fault_injection\.reached\w*\(\s*f?"([^"]+)"', SOURCE))
    patterns = [re.sub(r"\{[^}]*\}+", r"\\w+", name) for name in written]
    for kill in [*kills(sixty(1)[0]), *kills(sixty(2)[0])]:
        assert any(re.fullmatch(pattern, kill.stage) for pattern in patterns), kill
