"""A YAML text of any kind is read or refused, at once and within bounds."""

import pytest

from analysis.records.bounded_yaml import load_bounded


def test_a_config_is_read_as_plain_yaml_reads_it():
    assert load_bounded(b"a: {b: [1, 2.5, x]}\nc: null\n") == {"a": {"b": [1, 2.5, "x"]}, "c": None}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [1]\nb: *x", "alias"),
        ("[" * 100_000, "nests deeper"),
        ("- " * 100_000, "nests deeper"),
        ("\n".join(" " * k + "a:" for k in range(500)), "nests deeper"),
        ("[" + "1," * 30_000 + "1]", "more than"),
        ("a: " + "9" * 1_000_000, "limit"),
        (b"\xff\xff", "position 0|unacceptable|invalid"),
        ("a: [", "expected"),
        ("a: !!python/object:os.system x", "constructor"),
    ],
)
def test_what_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        load_bounded(text)
