import pytest

from trainables.data.independence.answer_kinds import kind_shares, one_sided


def test_shares():
    assert kind_shares(["5", "7", "yes", "a; b"]) == {"number": 0.5, "yes/no": 0.25, "list": 0.25}


@pytest.mark.parametrize(
    ("here", "there", "found"),
    [
        ({"number": 0.95, "list": 0.05}, {"number": 1.0}, ["list"]),
        ({"number": 0.951, "list": 0.049}, {"number": 1.0}, []),
        ({"list": 1.0}, {"number": 0.991, "list": 0.009}, ["list"]),
        ({"list": 1.0}, {"number": 0.99, "list": 0.01}, []),
        ({"number": 1.0}, {"number": 0.5, "list": 0.5}, []),
    ],
)
def test_one_sided_from_5_percent_here_to_below_1_there(here, there, found):
    assert one_sided(here, there) == found
