import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.audit.ngrams import Flat, matches, ngrams, row_ngrams
from trainables.data.audit.normalization import mixed

row_lists = st.lists(st.lists(st.integers(0, 3), max_size=8), max_size=6)


def flat(rows):
    return Flat.of([mixed(np.array(row, np.uint64)) for row in rows])


@settings(deadline=None)
@given(words=st.lists(st.integers(0, 2), max_size=30), n=st.integers(1, 5))
def test_ngrams_are_equal_where_the_runs_are(words, n):
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    hashes = ngrams(mixed(np.array(words, np.uint64)), n).tolist()
    assert len(hashes) == len(runs)
    assert len(set(hashes)) == len(set(runs)) == len(set(zip(hashes, runs, strict=True)))


@settings(deadline=None)
@given(rows=row_lists, n=st.integers(1, 4))
def test_ngrams_of_rows_do_not_cross_their_ends(rows, n):
    expected = [(i, h) for i, row in enumerate(rows) for h in ngrams(mixed(np.array(row, np.uint64)), n).tolist()]
    hashes, row_of = row_ngrams(flat(rows), n)
    assert list(zip(row_of.tolist(), hashes.tolist(), strict=True)) == expected


@settings(deadline=None)
@given(first=row_lists, second=row_lists)
def test_joined_rows_are_the_rows(first, second):
    joined = Flat.joined([flat(first), flat(second)])
    both = flat([*first, *second])
    assert joined.values.tolist() == both.values.tolist()
    assert joined.ends.tolist() == both.ends.tolist()
    left, right = ([one.row(i).tolist() for i in range(len(one.ends))] for one in (joined, both))
    assert left == right


@settings(deadline=None)
@given(keys=st.lists(st.integers(0, 9)), queries=st.lists(st.integers(0, 9)))
def test_matches_are_all_equal_pairs(keys, queries):
    ordered = np.array(sorted(keys), np.uint64)
    query, at = matches(ordered, np.array(queries, np.uint64))
    expected = [(i, j) for i, one in enumerate(queries) for j, other in enumerate(ordered) if one == other]
    assert list(zip(query.tolist(), at.tolist(), strict=True)) == expected
