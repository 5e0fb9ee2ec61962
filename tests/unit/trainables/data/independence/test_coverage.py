import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.trainables.data.independence.helpers import demo, halves, made, sample, text, texts
from trainables.data.independence import coverage
from trainables.data.independence.coverage import far_items, is_unsupported, unsupported, unsupported_share
from trainables.data.independence.texts import group_of


def far(train, area, seed=0):
    return far_items(texts(train), {"area": texts(area)}, seed)["area"]


def test_items_of_another_world_are_far_and_the_training_sets_own_are_not():
    poems = [sample(f"poem-{i}", f"Zephyrs hum o'er {word} ponds\n\nUpon?", "dusk") for i, word in enumerate("abc")]
    found = far(made("plain", 60, seed=1), [*made("plain", 25, seed=2), *poems])
    assert set(found.ids[:3]) == {"poem-0", "poem-1", "poem-2"}
    assert 3 <= found.count <= 6
    assert found.share == found.count / 53
    assert found.looked_at == 53


def test_about_one_percent_of_the_same_process_is_far():
    left, right = halves(demo("train.jsonl"), group_of, 0)
    assert far(left, right).share <= 0.04


def test_the_threshold_ignores_samples_of_the_same_context():
    """Each sample has a twin in its own context; those of other contexts are what counts."""
    train = made("plain", 40, seed=1)
    twins = [sample(f"{s.id}-twin", s.prompt, s.response) for s in train]
    alone, doubled = far(train, train), far([*train, *twins], train)
    assert doubled.threshold == pytest.approx(alone.threshold, abs=0.03)
    assert doubled.threshold < 0.9


def test_at_most_20_ids_farthest_first(monkeypatch):
    monkeypatch.setattr(coverage, "MOST_AREA", 30)
    found = far(made("plain", 40, seed=1), made("curt", 40, seed=2))
    assert found.looked_at == 30
    assert len(found.ids) == min(found.count, 20)


def test_one_context_gives_no_threshold():
    one = [sample(f"a{i}", f"table\n\nQuestion: {i}?", str(i)) for i in range(5)]
    assert far(one, made("plain", 3, seed=1)) is None


CONTEXT = "Widgets ($m)\nRevenue | 1,496.50 | 0.7\nCosts | (38)"


SUPPORTED = [
    "Revenue",
    "revenues",
    "$1,496.5 million",
    "1496.5",
    ".70",
    "-38",
    "Paris made 38",
    "Widget sales in Paris",
]
SUPPORTED += ["Yes", "million", "the", "B"]
UNSUPPORTED = ["$39 million", "12.6%", "Paris", "149", "3"]


@pytest.mark.parametrize("response", SUPPORTED + UNSUPPORTED)
def test_a_response_without_a_word_or_figure_of_its_prompt_is_unsupported(response):
    assert is_unsupported(text("How much was it?", CONTEXT, response)) == (response in UNSUPPORTED)


def test_unsupported_shares_of_area_and_training_set():
    items = [text("What is two and two?", "", answer, name=answer) for answer in ("four", "two", "five", "yes")]
    found = unsupported(items, unsupported_share(items[:2]))
    assert (found.count, found.share, found.ids, found.train_share) == (2, 0.5, ["four", "five"], 0.5)


@given(st.text(), st.text())
def test_what_the_prompt_says_is_supported(prompt, response):
    assert not is_unsupported(text(question=f"{prompt}\n{response}", response=response))


def test_demo_arithmetic_is_what_is_unsupported():
    """24 held-out answers of the demo are computed; the others stand in their text or are Yes or No."""
    found = [t for area in ("tables", "invoices", "contracts", "reports") for t in demo(f"heldout/{area}.jsonl")]
    count = sum(map(is_unsupported, texts(found)))
    assert 20 <= count <= 28
