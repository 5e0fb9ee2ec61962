"""When trials that fail in a row have one cause."""

import pytest

from sweeps.driver.repeated_failures import common_cause, signature

TRACE = 'Traceback (most recent call last):\n  File "/x/loop.py", line {}, in step\n'


def failed(error):
    return "failed", error


OOM = "torch.OutOfMemoryError: Tried to allocate {} MiB (GPU {})"


@pytest.mark.parametrize(
    ("ended", "cause"),
    [
        ([], None),
        ([failed("E: a")] * 2, None),
        ([failed("E: a")] * 3, "E: a"),
        ([failed("E: a"), failed("E: b"), failed("E: a")], None),
        ([failed("E: a"), ("complete", None), failed("E: a"), failed("E: a")], None),
        ([("complete", None), failed("E: a"), failed("E: a"), failed("E: a")], "E: a"),
        ([failed("E: a"), failed("E: a"), ("diverged", None)], None),
        ([failed(None)] * 3, "no cause was reported"),
        ([failed(f"{TRACE}trainables.errors.UserError: s:score: must score")] * 3, "s:score: must score"),
        ([failed(TRACE.format(k) + OOM.format(20.5 * k, k)) for k in (1, 2, 3)], OOM.format(61.5, 3)),
        ([failed(f"lost: the worker of lane-{k} ended") for k in (0, 1, 0)], "lost: the worker of lane-0 ended"),
    ],
)
def test_three_alike_in_a_row_have_a_common_cause(ended, cause):
    assert common_cause(ended) == cause


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("E: no file /a/b/t0001/x.json", "E: no file /a/c/t0002/x.json", True),
        ("E: t0001-s3 at 0x7f12ab", "E: t0012 at 0x1", True),
        ("E: run 3f2a9c01-aa11 after 1.5e-3 s", "E: run deadbeef01 after 20 s", True),
        ("hung: nothing for 12 s, more than 10 s", "hung: nothing for 611 s, more than 600 s", True),
        ("ValueError: size 3", "KeyError: size 3", False),
    ],
)
def test_words_make_a_difference_and_numbers_ids_and_paths_do_not(one, other, alike):
    assert (signature(one) == signature(other)) is alike
