"""The constant text around prompts is found, and duplicates and leaks are judged without it."""

import pytest

from tests.unit.trainables.data.audit.helpers import audited, sample
from trainables.data.audit.wrappers import Wrappers, find_wrappers

FIRST = ("Where can I", "My", "Why was", "The", "Is there any", "Somebody", "Do you", "An old", "Please tell", "Sorry")
THING = ("card", "transfer", "cheque", "top up", "statement", "limit", "refund")
LAST = ("lost", "late", "blocked", "too small", "twice there", "unknown to me", "of no use here", "wrong", "wanted")
# 60 messages that begin and end in many ways.
MESSAGES = [f"{FIRST[i % 10]} {THING[i % 7]} {LAST[i % 9]} {i}" + "?" * (i % 2) for i in range(60)]
BEFORE = "Name the intent of the message that a customer of a bank has sent, as one of the 77 labels of the list.\n\n{}"
AFTER = "{}\n\nWhat is the intent of the customer in this message, as one of the 77 labels?"
AROUND = "Name the intent of this message, as one of 77 labels.\n\nMessage: {}\n\nWhat is the customer's intent?"
CHINESE = "请判断下面这条消息的意图：{}\n\n意图是什么？"
TEMPLATES = [BEFORE, AFTER, AROUND]
BARE = "{}"
CASES = [[BEFORE], [AFTER], [AROUND], TEMPLATES, [BARE, AROUND], [BARE]]
NAMES = ["before", "after", "around", "mixture", "some bare", "none"]


def prompts(templates):
    return [templates[i % len(templates)].format(message) for i, message in enumerate(MESSAGES)]


@pytest.mark.parametrize("templates", [*CASES, [CHINESE]], ids=[*NAMES, "chinese"])
def test_a_wrapper_is_taken_off_whole_and_nothing_of_the_message(templates):
    found = find_wrappers([prompts(templates)])
    for template in templates:
        for message in MESSAGES:
            wrapped = template.format(message)
            start, end = found.span(wrapped)
            assert wrapped[start:end].strip() == message


@pytest.mark.parametrize(
    "prompts",
    [
        [],
        ["Name the intent of this message: hello"] * 20,  # one prompt is no wrapper
        [f"How do I {word}?" for word in ("top up", "pay", "leave")] + [f"{word} it is" for word in "abcdefgh"],
        ["What is a?", "What is b?", "What is c?", "What is d?"],  # two words
        [f"The contract names {n} parties." for n in range(3)],  # three prompts
    ],
)
def test_what_is_no_wrapper(prompts):
    assert find_wrappers([prompts]) == Wrappers()


def test_a_prompt_of_which_nothing_would_be_left_is_compared_whole():
    found = find_wrappers([prompts([AROUND])])
    for left in ("", " ", "?!"):
        assert found.span(AROUND.format(left)) == (0, len(AROUND.format(left)))


def leaks(templates, line, item, heldout=None):
    train = [sample(f"t{i}", text, f"label {i % 10}") for i, text in enumerate(prompts(templates))]
    audit = audited([*train, line], {"bank": [item, *(heldout or [])]})
    return audit.train.hits.get("leakage")


PARAPHRASES = [
    ("Where can I get a physical card?", "How can I get a physical card?"),
    ("Why was I charged twice for the coffee?", "Why was I charged three times for the coffee?"),
    ("Is my top-up still pending after two days?", "Is my transfer still pending after two days?"),
]


@pytest.mark.parametrize("templates", CASES, ids=NAMES)
@pytest.mark.parametrize(("trained", "held"), PARAPHRASES)
def test_a_paraphrase_is_no_leak_however_long_the_instruction(templates, trained, held):
    for template in templates:
        line, item = sample("x", template.format(trained), "one label"), sample("h", template.format(held), "one label")
        assert leaks(templates, line, item) is None


LONG = "forty euros that I sent to my sister in Lisbon on Monday have not been seen there yet"


@pytest.mark.parametrize("templates", CASES, ids=NAMES)
def test_a_message_inside_a_longer_one_is_a_leak_under_any_template(templates):
    for at, template in enumerate(templates):
        other = templates[(at + 1) % len(templates)]
        line = sample("x", other.format(f"Hello there. {LONG}, so please help me soon, I beg you"), "another label")
        found = leaks(templates, line, sample("h", template.format(LONG), "a label"))
        (hit,) = found.examples
        assert (hit.line, found.lines.tolist()) == (61, [61])
        assert "shares 'forty euros that i sent to my sister in lisbon on monday " in hit.got


def test_the_message_shows_what_is_shared_beyond_the_wrapper_and_the_key_that_decides():
    line = sample("x", AROUND.format(f"Hi, {LONG}, thanks"), "y")
    train = [sample(f"t{i}", text, f"label {i % 10}") for i, text in enumerate(prompts([AROUND]))]
    error = str(audited([*train, line], {"bank": [sample("h", AROUND.format(LONG), "y")]}).failures()[0])
    assert "got 'Hi, forty euros that I sent to my sister in Lisbon on Monday'…, shares 'forty euros" in error
    assert "100% of the words of a prompt beyond its instruction, see " in error
    assert error.endswith("or set data.on_defect.leakage=drop (1 line)")
    assert "intent" not in error


@pytest.mark.parametrize(
    ("trained", "held", "leaked"),
    [
        (("I lost my card", "lost card"), ("I lost my card", "lost card"), True),  # a short message, with its answer
        (("I lost my card", "lost card"), ("I lost my card", "angry"), False),  # another question about it
        (("France", "Paris"), ("France", "Paris"), False),  # too few words to be one item
    ],
)
def test_a_short_message_under_another_template_is_a_leak_with_the_same_answer(trained, held, leaked):
    line, item = sample("x", BEFORE.format(trained[0]), trained[1]), sample("h", AFTER.format(held[0]), held[1])
    assert (leaks(TEMPLATES, line, item) is not None) == leaked


def test_the_same_short_message_in_the_same_wrapper_is_a_leak_whatever_the_answer():
    line, item = sample("x", AROUND.format("I lost it"), "yes"), sample("h", AROUND.format("I lost it"), "no")
    assert leaks([AROUND], line, item).examples[0].got.endswith("the same prompt with another response")


def test_a_question_about_another_long_context_is_no_leak():
    asked = "What was the total amount of deferred revenue in the year 2019, in millions?"
    texts = [" ".join(f"{word}{n}" for n in range(60)) for word in ("alder", "birch", "cedar")]
    questions = [f"How large was item {word} in this year?" for word in "abcdefgh"]
    train = [f"{text}\n\n{question}" for text in texts for question in questions]
    held = [sample(f"h{i}", f"{texts[0]}\n\nHow large was item {i}?") for i in range(4)]
    lines = [sample(f"t{i}", text, str(i)) for i, text in enumerate(train)]
    items = [*held, sample("h", f"{texts[0]}\n\n{asked}", "5")]
    for text, leaked in ((texts[1], False), (texts[0], True)):
        audit = audited([*lines, sample("x", f"{text}\n\n{asked} Well?", "6")], {"area": items})
        assert ("leakage" in audit.train.hits) == leaked


def near(templates, one, other, at=(0, 0)):
    train = [sample(f"t{i}", text, f"label {i % 10}") for i, text in enumerate(prompts(templates))]
    pair = [
        sample(name, templates[which].format(text), "same")
        for name, text, which in zip("ab", (one, other), at, strict=True)
    ]
    return "near_duplicate" in audited([*train, *pair]).train.hits


@pytest.mark.parametrize("templates", CASES, ids=NAMES)
def test_duplicates_are_judged_by_the_message(templates):
    for at in range(len(templates)):
        assert near(templates, LONG, LONG.replace("sister", "sisster"), (at, at))
        assert not near(templates, LONG, LONG.replace("sister", "mother"), (at, at))
        assert not near(templates, "My card", "My cart", (at, at))


def test_a_word_more_in_a_short_message_is_no_duplicate_however_long_the_instruction():
    long = " ".join(["Read the message with care and name its intent."] * 12) + "\n\n{}\n\nWhich intent is it?"
    assert not near([long], "I did get my new card in the post", "I did not get my new card in the post")


def test_the_same_message_under_two_templates_is_no_duplicate():
    assert not near(TEMPLATES, LONG, LONG, (0, 2))
