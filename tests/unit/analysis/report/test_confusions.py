"""Confusions of labels: what counts as one, and for which areas."""

import pytest

from analysis.report.sections.confusions import NO_LABEL, Answered, confusions, section_table

LABELS = {"pending transfer", "card lost", "top up"}


@pytest.mark.parametrize(
    ("expected", "answer", "found"),
    [
        ("pending transfer", "Pending transfer.", {}),  # right by SQuAD's normalization
        ("pending transfer", "transfer pending", {("pending transfer", "transfer pending"): 1}),
        ("card lost", "top up", {("card lost", "top up"): 1}),
        ("card lost", "I am not sure", {("card lost", NO_LABEL): 1}),
        ("card lost", "", {("card lost", NO_LABEL): 1}),
    ],
)
def test_a_wrong_answer_is_another_label_the_same_words_or_no_label(expected, answer, found):
    assert confusions([(expected, answer)], LABELS) == found


def answers(expected, best, area="bank"):
    return [Answered(area, expected, "base wrote this", best)]


def test_the_most_frequent_come_first_with_what_the_base_model_did():
    rows = answers("card lost", "top up") * 3 + answers("pending transfer", "transfer pending") * 2
    table = section_table(rows, lambda: LABELS)
    assert table.cells[0][0].text == "bank"
    assert [[cell.text for cell in row[1:]] for row in table.cells] == [
        ["card lost", "top up", "", "3", "0"],
        ["pending transfer", "transfer pending", "the same words: token F1 is 1", "2", "0"],
    ]


@pytest.mark.parametrize(
    ("rows", "training"),
    [
        (answers("card lost", "card lost"), LABELS),  # nothing is wrong
        (answers("12", "13") * 9 + answers("14", "13"), {"13"}),  # answers that training does not show: no labels
        (answers("one two three four five six", "x"), {"one two three four five six"}),
        ([], LABELS),
    ],
)
def test_answers_that_are_no_labels_give_no_table(rows, training):
    assert section_table(rows, lambda: training) is None
