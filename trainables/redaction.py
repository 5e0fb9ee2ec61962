"""Redaction of credentials in all text that is written or shown: ledger, records, errors, plans.

Two kinds are recognized: values of environment variables with a credential's name, and text in the format of a known
issuer. Other secrets can't be distinguished from ordinary text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

HIDDEN = "***"
SHORTEST_VALUE = 8  # our choice: shorter values of environment variables would hide ordinary words

# Whole words of a variable's name, so that TOKENIZERS_PARALLELISM does not match.
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:KEY|APIKEY|TOKEN|PAT|SECRET|PASSWORD|PASSWD|PWD|PASSPHRASE|CREDENTIALS?|AUTH)(?:$|_)"
)
_NOT_SECRET = frozenset(("PWD", "SSH_AUTH_SOCK", "GPG_KEY"))

# Format and replacement. Sources: the issuers' documentation of their prefixes.
_SHAPES: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s/?#@\"'<>]+@", re.IGNORECASE), rf"\1{HIDDEN}@"),  # scheme://user:password@
    (re.compile(r"([?&](?:X-Amz-(?:Signature|Credential|Security-Token)|sig|signature|access_token|token|api_?key)=)"
                r"[^\s&#\"'<>]+", re.IGNORECASE), rf"\1{HIDDEN}"),  # signed and keyed URLs
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), HIDDEN),  # AWS access key ids
    (re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"), HIDDEN),  # Hugging Face
    (re.compile(r"\bwandb_v\d+_[A-Za-z0-9_-]{20,}"), HIDDEN),  # W&B's newer keys; the older are bare hex, like hashes
    (re.compile(r"\b(?:gh[oprsu]_[A-Za-z0-9]{36,}|github_pat_\w{22,}|glpat-[\w-]{20,})"), HIDDEN),
    (re.compile(r"\b(?:sk|pk|rk)-(?:[a-z]+-)*[A-Za-z0-9_-]{20,}"), HIDDEN),  # OpenAI, Anthropic, …
    (re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"), HIDDEN),  # Slack
    (re.compile(r"(\bhooks\.slack\.com/\w+/|\bdiscord(?:app)?\.com/api/webhooks/|\.webhook\.office\.com/)"
                r"[^\s\"'<>;]+", re.IGNORECASE), rf"\1{HIDDEN}"),  # knowing such an address is enough to post to it
    (re.compile(r"\bAIza[\w-]{35}"), HIDDEN),  # Google API keys
    (re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"), HIDDEN),  # JSON web tokens
    (re.compile(r"\b(Bearer|Basic) [A-Za-z0-9._~+/=-]{16,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
]  # fmt: skip

# Only in messages and logs: a user's text may mention passwords.
_NAMED = re.compile(
    r"((?:^|[^\w])[\"']?[\w.-]*(?:api[_-]?key|secret(?:[_-]?(?:access[_-]?)?key)?|password|passwd|(?:access|auth|api|session)[_-]?"
    r"token)[\"']?\s*[=:]\s*[\"']?)(?!\*\*\*)[^\s\"',;&)}]{4,}",
    re.IGNORECASE,
)


def has_credential(text: str) -> bool:
    """Whether the text holds a credential in a known format, or the value of a credential's environment variable."""
    return _hide_known(text, _environment_values()) != text


def redact(text: str) -> str:
    """Replace credentials by `***`, as well as values that a name marks as one (`password=…`, `api_key: …`)."""
    return _redact(text, _environment_values())


def redact_all(value: Any) -> Any:
    """Redact every string in a JSON value; keys stay."""
    known = _environment_values()

    def inside(value: Any) -> Any:
        if isinstance(value, str):
            return _redact(value, known)
        if isinstance(value, dict):
            return {key: inside(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [inside(inner) for inner in value]
        return value

    return inside(value)


def credentials_in(tree: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the redacted text of each leaf that holds a credential."""
    if isinstance(tree, str):
        if has_credential(tree):
            yield place, redact(tree)
    elif isinstance(tree, dict):
        for key, inner in tree.items():
            yield from credentials_in(inner, f"{place}.{key}".strip("."))
    elif isinstance(tree, list):
        for number, inner in enumerate(tree):
            yield from credentials_in(inner, f"{place}[{number}]")


def _redact(text: str, known: list[str]) -> str:
    return _NAMED.sub(rf"\1{HIDDEN}", _hide_known(text, known))


def _hide_known(text: str, known: list[str]) -> str:
    for value in known:
        text = text.replace(value, HIDDEN)
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text


def _environment_values() -> list[str]:
    values = {
        value
        for name, value in os.environ.items()
        if len(value) >= SHORTEST_VALUE and name not in _NOT_SECRET and _SECRET_NAME.search(name.upper())
    }
    return sorted(values, key=len, reverse=True)  # the longest first: one may be a part of another
