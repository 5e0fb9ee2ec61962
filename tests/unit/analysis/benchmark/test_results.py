"""Who is best, tied, better than before: decisions on planted results."""

import io
import math

import numpy as np
import pytest
from rich.console import Console

from analysis.benchmark.reading import history, pin_words, pinned, table_rows
from analysis.benchmark.results import BITS, Results, Scored, bits_per_byte, usual_metric
from analysis.benchmark.scoring import split_name
from analysis.benchmark.views import print_answers, print_pins, print_table_of

AREAS = {"a": 1.0, "b": 3.0}
ITEMS = 60


def model(label, gain=0.0, noise=0.05, right=0.5, tokens="same", seed=None, **entry):
    """A model whose losses lie `gain` below those of all others, give or take `noise`, item by item."""
    draw = np.random.default_rng(abs(hash_of(label)) if seed is None else seed)
    common = np.random.default_rng(0).normal(3.0, 1.0, (2, ITEMS))
    items = {}
    for a, area in enumerate(AREAS):
        for i in range(ITEMS):
            items[area, f"i{i}"] = {
                "group": f"g{i}",
                "nll": float(common[a, i] - gain + draw.normal(0, noise)),
                "tokens": 4,
                "bytes": 8,
                "answer": "x",
                "exact_match": float(i < round(right * ITEMS)),
                "token_f1": 0.5,
                "scores": {},
            }
    entry = {"place": label, "precision": "fp32", "scored": "2026", **entry}
    return Scored(label, entry, items, dict.fromkeys(AREAS, tokens))


def hash_of(text):
    return sum(31**place * ord(letter) for place, letter in enumerate(text)) % 2**32


def table(models, metric="nll"):
    return {row["model"]: row for row in table_rows(Results(models, AREAS, metric))}


def test_a_planted_better_model_is_found_and_a_copy_is_a_tie():
    best = model("best", gain=0.2)
    copy = Scored("copy", best.entry, best.items, best.tokens)
    found = table([model("one"), model("two"), copy, best])
    assert [row["rank"] for row in found.values()] == [1, 2, 3, 4]
    assert list(found)[:2] == ["copy", "best"], "equal ones in the order given"
    assert found["best"]["tied"]
    assert found["best"]["behind"] == 0
    assert not found["one"]["tied"]
    assert found["one"]["behind_interval"][0] > 0.1
    assert found["best"]["score"] == pytest.approx(
        sum(w * np.mean([item["nll"] for (a, _), item in best.items.items() if a == area]) for area, w in AREAS.items())
        / 4
    )


@pytest.mark.parametrize(("shift", "tied"), [(5e-5, True), (1e-3, False)])
def test_what_loading_the_weights_in_another_form_changes_is_a_tie(shift, tied):
    first = model("first")
    items = {key: {**item, "nll": item["nll"] + shift} for key, item in first.items.items()}
    found = table([first, Scored("merged", first.entry, items, first.tokens)])
    assert found["merged"]["tied"] is tied


@pytest.mark.parametrize(("right", "tied"), [((0.5, 0.5), True), ((0.5, 0.5 + 1 / ITEMS), True), ((0.2, 0.8), False)])
def test_shares_are_compared_the_other_way_round(right, tied):
    found = table([model("high", right=right[1]), model("low", right=right[0])], "exact_match")
    assert found["high"]["score"] == pytest.approx(right[1])
    assert found["low"]["tied"] is tied


def test_intervals_hold_for_all_pairs_together():
    equal = 0
    for luck in range(60):
        models = [model(f"m{k}", noise=0.3, seed=100 * luck + k) for k in range(6)]
        equal += all(row["tied"] for row in table(models).values() if row["rank"] > 1)
    assert equal >= 54, "of 60 sets of equal models, at most a twentieth may be told apart, give or take luck"


@pytest.mark.parametrize(
    ("nll", "tokens", "length"),
    [(math.log(256), 12, 12), (math.log(65536), 6, 12), (math.log(256) * 12, 1, 12)],
)
def test_bits_a_byte_are_the_same_for_all_tokenizers(nll, tokens, length):
    """A text of 12 bytes, each of probability 1/256, as bytes, as pairs of bytes, and as one token."""
    assert bits_per_byte(nll, tokens, length) == pytest.approx(8.0)


def test_bits_a_byte_are_taken_where_tokens_differ():
    one, other = model("one"), model("other", tokens="others")
    assert usual_metric([one, model("two")]) == "nll"
    assert usual_metric([one, other]) == BITS
    found = table([one, other], BITS)
    assert found["one"]["areas"]["a"] == pytest.approx(
        np.mean([i["nll"] * 4 / math.log(2) / 8 for (a, _), i in one.items.items() if a == "a"])
    )


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_model_without_a_value_has_no_rank_and_says_why(value):
    broken = model("broken")
    broken.items["a", "i3"]["nll"] = value
    found = table([broken, model("whole")])
    assert (found["broken"]["rank"], found["whole"]["rank"]) == (None, 1)
    assert found["broken"]["defect"] == f"no held-out loss on 1 of {2 * ITEMS} items"


def sweep(name, started, gain):
    facts = {"sweep": name, "sweep_id": name, "started": started, "trial_id": "t1", "step": 4}
    return model(f"{name}:t1:4", gain, **facts)


def test_the_history_says_what_each_sweep_brought():
    base = model("s1:base", 0.9, sweep="s1", sweep_id="s1", started="2026-01", trial_id="base")
    models = [
        *(sweep("s3", "2026-03", 0.5), sweep("s1", "2026-01", 0.1), sweep("s2", "2026-02", 0.5)),
        *(sweep("s4", "2026-04", 0.2), base),
    ]
    lines = history(Results(models, AREAS, "nll"))
    assert [(line["sweep"], line["verdict"]) for line in lines] == [
        *(("s1", "first"), ("s2", "better"), ("s3", "tied"), ("s4", "worse"))
    ]
    assert lines[-1]["best_so_far"] in ("s2:t1:4", "s3:t1:4")


def test_a_pinned_item_is_followed_step_by_step():
    points = {8: sweep("s", "2026", 0.5), 4: sweep("s", "2026", 0.1)}
    models = [Scored(f"s:t1:{k}", {**one.entry, "step": k}, one.items, one.tokens) for k, one in points.items()]
    models[0].items["a", "i0"]["exact_match"] = 0.0
    lines = pinned(Results(models, AREAS, "nll"), ("a", "i0"))
    assert [line["model"] for line in lines] == ["s:t1:4", "s:t1:8"]
    assert lines[1]["words"] == f"fails here, yet is first on {2 * ITEMS} of {2 * ITEMS}"
    assert lines[0]["words"] == f"right here, but is first on 0 of {2 * ITEMS}"


@pytest.mark.parametrize(
    ("exact_match", "first_on", "words"),
    [
        (0.0, 412, "fails here, yet is first on 412 of 500"),
        (0.0, 12, "fails here, and is first on 12 of 500"),
        (1.0, 412, "right here, and is first on 412 of 500"),
        (1.0, 12, "right here, but is first on 12 of 500"),
        (None, 12, "place 2 here, first on 12 of 500"),
    ],
)
def test_a_pin_in_words(exact_match, first_on, words):
    assert pin_words({"exact_match": exact_match, "first_on": first_on, "items": 500, "place": 2}) == words


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("outputs/demo", ("outputs/demo", None, None)),
        ("outputs/demo:t0003", ("outputs/demo", "t0003", None)),
        ("outputs/demo:t0003:40", ("outputs/demo", "t0003", "40")),
        ("out:puts/demo", ("out:puts/demo", None, None)),
        ("out:puts/demo:base", ("out:puts/demo", "base", None)),
        ("org/model", (None, None, None)),
        ("outputs/demo:", (None, None, None)),
        ("outputs/demo:t0003:", (None, None, None)),
        ("outputs/demo:a:b:c", (None, None, None)),
    ],
)
def test_a_name_is_split_at_its_last_colons(text, parts):
    assert split_name(text, {"outputs/demo", "out:puts/demo"}.__contains__) == parts


def test_no_name_of_a_file_or_item_moves_the_terminals_cursor():
    evil = "a\x1b[2J\x9bb"
    console = Console(file=io.StringIO(), width=100)
    results = Results([model(evil), model("plain")], AREAS, "nll")
    print_table_of(console, evil, results, table_rows(results))
    print_pins(console, ("a", evil), pinned(results, ("a", "i0")))
    one = {"model": evil, "exact_match": 1, "nll": 1.0, "answer": evil}
    print_answers(console, [{"area": "a", "id": evil, "prompt": evil, "reference": evil, "answers": [one]}], 1)
    assert not {"\x1b", "\x9b"} & set(console.file.getvalue())
    assert "a?[2J?b" in console.file.getvalue()
