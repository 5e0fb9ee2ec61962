"""Tags of samples and of areas, counted."""

import pytest

from trainables.data.independence.tags import count_tags, tags_of
from trainables.data.samples import Sample


def made(line, **meta):
    turns = [{"role": "user", "content": f"question {line // 2}"}, {"role": "assistant", "content": "r"}]
    return Sample(f"s{line}", turns, meta, line)


@pytest.mark.parametrize(
    ("meta", "area", "tags"),
    [
        ({}, {}, {}),
        ({"skill": "sum"}, {}, {"skill": "sum"}),
        ({"skill": "sum"}, {"skill": "product", "domain": "tables"}, {"skill": "sum", "domain": "tables"}),
        ({"skill": None, "source": 7}, {"skill": "sum"}, {"skill": "sum", "source": "7"}),
        ({"skill": " ", "domain": ["a"]}, {}, {}),
    ],
)
def test_a_samples_own_tag_wins_over_its_areas(meta, area, tags):
    assert tags_of(meta, area) == tags


def test_samples_and_contexts_are_counted_and_names_of_samples_are_no_tags():
    samples = [made(i, skill="sum" if i < 4 else "product", source=f"page {i}") for i in range(10)]
    assert count_tags(samples, {"domain": "tables"}) == {
        "skill": {"product": {"samples": 6, "contexts": 3}, "sum": {"samples": 4, "contexts": 2}},
        "domain": {"tables": {"samples": 10, "contexts": 5}},
    }
