"""What a plan says of the data, as tables of cases."""

import pytest

from sweeps.plan.data_findings import tag_findings, unread_findings
from tests.unit.trainables.data.audit.helpers import audited, sample


@pytest.mark.parametrize(
    ("extra", "rules", "words"),
    [
        ({}, [], []),
        ({"group": "g", "source": "s", "domain": "d", "skill": "x"}, [], []),
        ({"area": "x"}, ["metadata_keys"], ["area (data.train 2, held 1)"]),
        (
            {"input": "i"},
            ["unread_keys"],
            ["input (a part of the prompt; rows: data.train 2, held 1)", "fields.metadata"],
        ),
        ({"label": False}, ["unread_keys"], ["label (whether the answer is wanted"]),
        (
            {"weight": 0.5, "url": "u"},
            ["unread_keys", "metadata_keys"],
            ["weight (what is learnt", "url (data.train 2"],
        ),
        ({"rejected": "no"}, ["unread_keys"], ["rejected (the worse answer"]),
        ({"input": "", "area": None}, [], []),
    ],
)
def test_a_key_that_nothing_reads_is_listed(extra, rules, words):
    found = list(unread_findings(audited([sample("a") | extra, sample("b") | extra], {"held": [sample("c") | extra]})))
    assert [finding.rule for finding in found] == rules
    assert all(any(word in finding.message for finding in found) for word in words)


def test_keys_of_messages_are_told_from_those_of_rows():
    turns = [{"role": "user", "content": "p", "id": 1}, {"role": "assistant", "content": "r", "thought": "t"}]
    known, other = unread_findings(audited([{"messages": turns}]))
    assert "messages[].thought (reasoning; rows: data.train 1)" in known.message
    assert "messages[].id (data.train 1); those of messages[]. are given to the chat template" in other.message


def counts(**contexts):
    return {value: {"samples": 2 * number, "contexts": number} for value, number in contexts.items()}


ENOUGH = {"skill": counts(sum=30, product=30)}


@pytest.mark.parametrize(
    ("objective", "train", "area", "rules"),
    [
        ((), {}, {}, []),
        ((), ENOUGH, ENOUGH, []),
        (("objective.skill=sum",), ENOUGH, ENOUGH, []),
        (("objective.skill=sum",), {}, {}, ["objective_without_data"]),
        (("objective.skill=sum",), ENOUGH, {}, ["objective_without_data"]),
        (("objective.skill=negation",), ENOUGH, ENOUGH, ["objective_without_data"]),
        ((), {"skill": counts(sum=30, product=3)}, ENOUGH, ["few_of_a_tag"]),
        ((), ENOUGH, {"skill": counts(sum=30, product=3)}, ["few_of_a_tag"]),
        ((), {"source": counts(a=30, b=3)}, {}, []),
        (("objective.source=b",), {"source": counts(a=30, b=3)}, {"source": counts(b=40)}, ["few_of_a_tag"]),
        ((), ENOUGH, {"skill": counts(sum=30)}, ["untested_tag"]),
    ],
)
def test_tags_and_the_objective(load, objective, train, area, rules):
    config = load(*objective)
    tags = {"data.train": train, **dict.fromkeys(config.heldout.areas, area)}
    assert [finding.rule for finding in tag_findings(config, tags)] == rules
