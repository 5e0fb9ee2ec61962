"""What the plan says of the confirmation, as a table of cases."""

from types import SimpleNamespace

import pytest

from sweeps.plan.screen import SHOWN_CHARACTERS, confirm_words, cost_lines, sample_lines
from trainables.data.tokenization import ShownSample


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((), "2 settings x 2 more seeds: shows differences above 16 times the SD between seeds (80% power)"),
        (("search.trials=11",), "none, for 11 trials are fewer than 12 (confirm.budget sets replicates)"),
        (("confirm.budget=0",), ""),
        (("search.trials=5", "confirm.budget=0"), ""),
        (
            ("search.trials=5", "confirm.budget=8"),
            "2 settings x 4 more seeds: shows differences above 3 times the SD between seeds (80% power)",
        ),
        (
            ("confirm.seed_sd=0.01",),
            "2 settings x 2 more seeds: shows differences above 0.035 nats/token (80% power)",
        ),
        (
            ("confirm.budget=2",),
            "2 settings x 1 more seed: shows no difference: two rounds, or confirm.seed_sd, would measure the spread "
            "between seeds",
        ),
        (("confirm.budget=1",), "none: confirm.budget=1 does not pay for a replicate of each of 2 settings"),
        (
            ("confirm.budget=16",),
            "4 settings x 4 more seeds: shows differences above 3.4 times the SD between seeds (80% power)",
        ),
    ],
)
def test_what_the_plan_says_of_the_confirmation(load, overrides, words):
    assert confirm_words(load(*overrides)) == words


@pytest.mark.parametrize(("price", "words"), [(None, ""), ("2.5", " (5.00 at 2.5 an hour)")])
def test_the_forecast_is_said_in_money_where_a_price_is_known(load, price, words):
    config = load(*([f"resources.price_per_device_hour={price}"] if price else []))
    need = SimpleNamespace(device_hours={"one A100": 2.0}, memory_bytes=None, disk_bytes=0, paused_bytes=0)
    first = next(cost_lines(config, SimpleNamespace(forecast=need, fit=None)))
    assert first.startswith(f"compute   estimated 2.0 h on one A100{words}, without")


def test_a_sample_is_shown_as_the_model_sees_it_with_what_it_learns():
    parts = [("<|im_start|>user\n[a]\x1b[31m?<|im_end|>\n", False), ("two<|im_end|>", True), ("\n", False)]
    lines = list(sample_lines(ShownSample("s1", parts)))
    assert [line.plain for line in lines] == [
        "sample    s1, as the model sees it; it learns what stands in ⟦ ⟧:",
        "  <|im_start|>user",
        "  [a]\\x1b[31m?<|im_end|>",
        "  ⟦two<|im_end|>⟧",
        "  ",
    ]
    assert [[str(span.style) for span in line.spans] for line in lines] == [[], [], [], ["green"], []]


def test_a_long_sample_is_shown_by_its_ends():
    shown = "\n".join(line.plain for line in sample_lines(ShownSample("s1", [("a" * 1000 + "b" * 1000, True)])))
    assert f"{'a' * 300} … 1,400 characters … {'b' * 300}⟧" in shown
    assert shown.count("a") + shown.count("b") < SHOWN_CHARACTERS + 60
