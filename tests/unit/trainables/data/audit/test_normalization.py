import subprocess
import sys

import pytest
from ftfy.badness import is_bad
from ftfy.chardata import CONTROL_CHARS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainables.data.audit import normalization
from trainables.data.audit.normalization import control_character, garbled, hash64, normalize, word_hashes, words


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What  is\r\nX?", "what is x? ", True),
        ("ﬁne ①", "fine 1", True),
        ("STRASSE", "straße", True),
        ("a b", "ab", False),
        ("1.5", "15", False),
    ],
)
def test_normalized_texts_differ_only_where_a_reader_would_see_it(one, other, same):
    assert (normalize(one) == normalize(other)) == same


def test_the_tail_of_a_huge_text_still_counts(monkeypatch):
    monkeypatch.setattr(normalization, "MAX_CHARACTERS", 4)
    assert normalize("AB  X") == "abX"
    assert normalize("AB  X") != normalize("AB  x")


def test_words_are_without_punctuation_and_single_characters_where_there_are_no_spaces():
    assert words("net income: $1,496.5 million (2019)") == ["net", "income", "1", "496", "5", "million", "2019"]
    assert words("売上 was 5億円") == ["売", "上", "was", "5", "億", "円"]


def test_control_characters_are_those_that_ftfy_removes():
    assert {i for i in CONTROL_CHARS if i not in (9, 10, 12, 13)} == {
        i for i in range(0x10000) if normalization.CONTROL.search(chr(i))
    }
    assert control_character("a\tb\r\nc") is None
    assert control_character("some text with a \x07 bell") == repr("some text with a \x07 bell")


@settings(deadline=None, max_examples=500)
@given(st.text(st.sampled_from("aA.  ,1$\n—’“”€£é×ÂÃâ€™˜œà²°ØÙв√±‚ÄŒ\x80\xa0\ufffd"), max_size=12))
@example("â€” ")
@example("x\n Ã ")
def test_garbled_is_what_ftfy_finds_in_the_whole_text(sample):
    assert (garbled(sample) is not None) == (is_bad(sample) or "\ufffd" in sample)


def test_garbled_shows_the_place():
    assert garbled("before " * 50 + "â€” after") == repr("efore before before â€” after")
    assert garbled("plain — text, “quoted”, 5 € für Ærø") is None


def test_hashes_are_the_same_in_every_process():
    code = "from trainables.data.audit.normalization import *; print(hash64('é'), *word_hashes(['a', 'ü']))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [int(part) for part in other] == [hash64("é"), *word_hashes(["a", "ü"]).tolist()]
