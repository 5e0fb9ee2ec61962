"""Credentials of known shapes and of the environment are hidden, wherever they stand; other text stays as it is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.errors import UserError
from trainables.redaction import credentials_in, has_credential, redact, redact_all

# Put together here, so that no scanner takes this file for a leak.
SHAPES = {
    "url password": ("https://user:", "hunter2hunter2", "@example.org/data"),
    "url token": ("git+https://", "gAbCdEf0123456789", "@github.com/x/y"),
    "s3 signature": ("https://b.s3.amazonaws.com/k?X-Amz-Signature=", "0a1b2c3d4e5f", "&X=1"),
    "query token": ("https://example.org/x?a=1&token=", "abc123def", ""),
    "aws id": ("key ", "AKIA" + "Q" * 16, " end"),
    "hugging face": ("", "hf_" + "a1B2" * 9, ""),
    "wandb": ("", "wandb_v1_" + "a1B2" * 9, ""),
    "github": ("x", " ghp_" + "a1B2" * 9, ""),
    "openai": ("", "sk-proj-" + "a1B2" * 9, ""),
    "json web token": ("", "eyJ" + "a1" * 9 + ".eyJ" + "b2" * 9 + "." + "c3" * 9, ""),
    "slack webhook": ("https://hooks.slack.com/services/", "T0AB/B0CD/a1B2c3", ""),
    "discord webhook": ("https://discord.com/api/webhooks/", "123/a1B2-c3", " end"),
    "header": ("Authorization: Bearer ", "a1B2" * 6, ""),
    "private key": ("", "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----", ""),
}
NAMED = [
    "password=hunter2",
    "WANDB_API_KEY: abcdef123",
    '"secret": "abcd1234"',
    "aws_secret_access_key = abcd/efg",
    "auth-token=abcd",
]


@pytest.mark.parametrize("name", SHAPES)
def test_known_shapes_are_hidden_and_what_is_around_them_is_not(name):
    before, secret, after = SHAPES[name]
    hidden = redact(f"see {before}{secret}{after} there")
    assert secret.strip() not in hidden
    assert hidden.startswith("see ")
    assert hidden.endswith(f"{after} there")
    assert has_credential(before + secret + after)


@pytest.mark.parametrize("text", NAMED)
def test_what_is_named_as_a_credential_is_hidden_in_messages_but_no_reason_to_refuse_a_text(text):
    assert redact(text).rstrip('"').endswith("***")
    assert not has_credential(text)


@pytest.mark.parametrize(
    "text",
    [
        "2.31 nats a token: worse than before",
        "max_tokens=1024 lora_r=16 peak_lr=0.0001",
        "eos_token: </s>",
        "s3://bucket/train.jsonl",
        "https://example.org/a@b/c",
        "mail user@example.org",
        "git commit 0f1e2d3c4b5a69788796a5b4c3d2e1f001234567",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "the password is asked for",
        "key=value",
    ],
)
def test_other_text_stays(text):
    assert redact(text) == text


HIDDEN = ["WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "MY_TOKEN_2"]
OPEN = {"TOKENIZERS_PARALLELISM": "sometimes", "PWD": "/home/somebody", "DB_PASSWORD": "short"}


@pytest.mark.parametrize(("name", "value"), [*((name, "plain0words1of2no3shape") for name in HIDDEN), *OPEN.items()])
def test_only_credentials_of_the_environment_are_hidden(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert redact(f"got {value}!") == (f"got {value}!" if value in OPEN.values() else "got ***!")


def test_a_value_that_holds_another_is_hidden_whole(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "12345678")
    monkeypatch.setenv("B_TOKEN", "1234567890")
    assert redact("1234567890") == "***"


TREES = st.recursive(
    st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(TREES)
def test_redaction_keeps_the_tree_and_is_done_once(tree):
    once = redact_all(tree)
    assert redact_all(once) == once
    assert json.loads(json.dumps(once)) == once
    if not list(credentials_in(tree)) and "=" not in (text := json.dumps(tree)) and ":" not in text:
        assert once == tree


def test_places_of_credentials_are_named_without_them():
    tree = {"data": {"train": "https://u:pw123456@h/x"}, "points": ["", {"a": "hf_" + "a1B2" * 9}], "n": 3}
    assert list(credentials_in(tree)) == [("data.train", "https://***@h/x"), ("points[1].a", "***")]


def test_errors_never_show_one():
    assert str(UserError("data.train", "must exist", "https://u:pw123456@h/x", "mend it")).count("pw123456") == 0
