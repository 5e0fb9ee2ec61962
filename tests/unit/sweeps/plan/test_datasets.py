"""What the plan says of templates, on data sets of a few lines."""

import json

import pytest

from sweeps.plan.datasets import prepare_data
from tests.unit.trainables.data.template import helpers
from tests.unit.trainables.data.template.helpers import tokenizer_with
from trainables.errors import UserError, UserErrors

QUESTIONS = [
    {"id": f"q{k}", "prompt": f"How many legs have {k} herons?", "response": f"{2 * k} legs"} for k in range(4)
]


@pytest.fixture
def prepared(load, tmp_path):
    """Prepares a few lines for a template, with overrides of the config."""

    def prepare(template, *overrides, rows=QUESTIONS):
        path, held = tmp_path / "train.jsonl", tmp_path / "held.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        held.write_text(json.dumps({"id": "h", "prompt": "And a lynx, on its way?", "response": "four paws"}) + "\n")
        files = [f"data.train={path}", f"heldout.areas.home={held}", "data.template=null"]
        (tmp_path / "cache").mkdir()
        config = load(*files, *overrides)
        return prepare_data(config, tokenizer_with(template), tmp_path / "cache")

    return prepare


@pytest.mark.parametrize(
    ("template", "overrides", "finding"),
    [
        (helpers.PLAIN, (), None),
        (helpers.EMPTY_THOUGHT, (), "the template writes '<think>\\n\\n</think>' before an answer"),
        (helpers.EMPTY_THOUGHT, ("data.train_on_template_text=true",), None),
        (helpers.HEADER, (), "the template writes '<|go|>assistant' before an answer"),
        (helpers.OPENED, (), "the generation prompt ends in '<think>'"),
        (helpers.NO_END, (), "ends an answer with no end token: <|stop|> was put behind it; data.train (4 samples)"),
    ],
)
def test_what_a_template_does_to_samples_is_said_once(prepared, template, overrides, finding):
    found = prepared(template, *overrides)
    said = [one.message for one in found.findings if one.severity == "warning" and "template" in one.message]
    said = [message for message in said if finding is None or finding in message]
    assert len(said) == (finding is not None)
    assert [shown.id for shown in found.shown] == ["q0", "q1"]
    assert found.shown[1].parts[1][0].endswith("2 legs<|stop|>")


def test_a_function_of_the_users_that_fails_on_all_items_is_one_line(prepared, tmp_path, monkeypatch):
    (tmp_path / "scorers_of_a_plan.py").write_text("def fails(answer, item):\n    raise KeyError(item.id)\n")
    monkeypatch.syspath_prepend(tmp_path)
    held = tmp_path / "more.jsonl"
    held.write_text("".join(json.dumps(row | {"id": f"h{k}"}) + "\n" for k, row in enumerate(QUESTIONS)))
    area = {"path": str(held), "scorers": ["scorers_of_a_plan:fails"]}
    with pytest.raises(UserErrors) as caught:
        prepared(helpers.PLAIN, f"heldout.areas={json.dumps({'more': area})}")
    (line,) = str(caught.value).splitlines()
    assert "scorers_of_a_plan:fails: must score every answer, got KeyError ('h0') in" in line


def test_a_chat_template_of_the_users_is_used_and_kept(prepared, tmp_path):
    own = tmp_path / "own.jinja"
    own.write_text(helpers.PLAIN.replace("{% for", "{{ date_string }}{% for", 1))
    found = prepared(helpers.NO_END, f"data.chat_template={own}", "data.template_args.date_string=1 May")
    assert "".join(text for text, _ in found.shown[0].parts).startswith("1 May<|go|>user:How many")
    assert (tmp_path / "cache" / "chat_template.jinja").read_text() == own.read_text()


@pytest.mark.parametrize("form", ["\ufeff{}", '{{"chat_template": {}}}'])
def test_a_chat_template_in_json_or_behind_a_mark_is_the_template_alone(prepared, tmp_path, form):
    own = tmp_path / "own.json"
    own.write_text(form.format(json.dumps(helpers.PLAIN) if "chat_template" in form else helpers.PLAIN))
    found = prepared(helpers.NO_END, f"data.chat_template={own}")
    assert "".join(text for text, _ in found.shown[0].parts).startswith("<|go|>user:How many")


@pytest.mark.parametrize(
    ("text", "args", "message"),
    [
        ('{"chat_template": {"default": "x"}}', "{}", "data.chat_template: must be a readable file in UTF-8, got"),
        (None, "{}", "data.chat_template: must be a readable file in UTF-8, got"),
        ("{% for m in messages %}", "{}", "data.chat_template: must be a Jinja template, got"),
        (helpers.PLAIN, "{date: x}", "data.template_args: must be variables that the chat template reads, got date;"),
    ],
)
def test_a_wrong_chat_template_is_one_clear_line(prepared, tmp_path, text, args, message):
    own = tmp_path / "own.jinja"
    if text:
        own.write_text(text)
    with pytest.raises(UserError) as caught:
        prepared(helpers.PLAIN, f"data.chat_template={own}", f"data.template_args={args}")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
