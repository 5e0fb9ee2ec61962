"""Configs that a stranger posts: what they must not name, run or read; a refused one changes nothing."""

import json
import socket
from itertools import pairwise

import pytest

from tests.unit.sweeps.service.conftest import ROOT, SMOKE, files, sent

ROOTS = f"must lie below an allowed folder ({ROOT / 'conf'})"
HOSTILE = {
    "unknown key": (["serach.trials=3"], "did you mean search"),
    "wrong range": (["space.peak_lr.low=1.0"], "low must be below high"),
    "secret by interpolation": (["objective=${oc.env:HOME}"], "no interpolation"),
    "hidden interpolation": (['objective="\\x24{oc.env:HOME}"'], "no interpolation"),
    "interpolation in a key": (["heldout.areas.${oc.env:HOME}.path=x"], "overrides"),
    "absolute path": (["data.train=/etc/passwd"], ROOTS),
    "path that leads out": (["data.train=conf/../README.md"], ROOTS),
    "url of a file": (["data.train=file:///etc/passwd"], ROOTS),
    "url of a store": (["data.train=s3://bucket/x.jsonl"], ROOTS),
    "held-out path": (["heldout.areas.tables.path=/etc/hosts"], ROOTS),
    "model's path": (["model.name=/etc"], ROOTS),
    "home": (["model.name=~root/model"], ROOTS),
    "hub id": (["model.name=someone/model"], "must be a hub id that the service allows (none)"),
    "chat template": (["data.chat_template=/etc/passwd"], ROOTS),
    "parent in a store": (["parent=s3://bucket/x"], ROOTS),
    "nested key": (["search.trials" + "[0]" * 600 + "=1"], "overrides: must be plain key=value"),
    "a number of a thousand digits": (["seed=" + "9" * 1990], "seed: input should be less"),
    "not a number": (["training.max_grad_norm=.nan"], "training.max_grad_norm: must be a finite number"),
    "two lines": (["name=a\nb"], "name: must be letters"),
    "warm start": (["search.warm_start=[/etc]"], ROOTS),
    "parent": (["parent=/etc"], ROOTS),
    "webhook": (["notify.webhook=https://169.254.169.254/x"], "must go to a host that the service allows"),
    "webhook of a variable": (["notify.webhook=env:HOME"], "must go to a host that the service allows"),
    "a tracker's server": (["mlflow.tracking_uri=http://169.254.169.254/"], "must be a tracking URI that the service"),
    "a tracker's database": (["mlflow.tracking_uri=sqlite:////etc/x.db"], "must be a tracking URI that the service"),
    "a tracker in short": (["mlflow=sqlite:////etc/x.db"], "must be a tracking URI that the service allows (none)"),
    "remote code": (["model.trust_remote_code=true"], "may_run_code"),
    "a scorer's code": (["heldout.areas.tables.scorers=[os:system]"], "may_run_code"),
    "a scorer's code with an argument": (["heldout.areas.tables.scorers=[{os:system: 1}]"], "may_run_code"),
    "name that leads out": (["name=../x"], "name"),
    "name that is a path": (["name=a/b"], "name"),
    "no override": (["--help"], "key=value"),
    "surrogate": (["objective=\ud800"], "surrogates not allowed"),
    "surrogate in a key": (["\ud800=1"], "unicode"),
    "NUL": (["data.train=a\0b"], "control characters"),
}


@pytest.mark.parametrize(("overrides", "words"), HOSTILE.values(), ids=HOSTILE)
def test_what_a_posted_config_must_not_do(service, overrides, words):
    before = files(service)
    body = json.dumps({"config": SMOKE, "overrides": ["name=first", *overrides]})
    answer = service.client("ada").post("/sweeps", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    lines = answer.json()["errors"]
    assert all(line.startswith("error: ") and "\n" not in line for line in lines)
    assert words in "\n".join(lines)
    assert (files(service), service.queue.entries) == (before, {})


REPEATED = (f"{name}: &{name} [{','.join(['*' + before] * 9)}]" for before, name in pairwise("abcdefghi"))
BOMB = "\n".join(["a: &a [x]", *REPEATED])


@pytest.mark.parametrize(
    ("config", "status"),
    [
        (BOMB, 422),
        ("[" * 10_000, 422),
        ("seed: " + "9" * 60_000, 422),
        ("x" * 70_000, 422),
        ("x" * 300_000, 413),
        ("- a list", 422),
        ("x: !!python/object/apply:os.system [true]", 422),
        ("seed: 2026-11-30", 422),
        ("<<: {name: first}", 422),
        ("\x00", 422),
        (17, 422),
        (None, 422),
    ],
)
def test_configs_that_are_none_are_refused_at_once(service, config, status):
    assert service.client("ada").post("/sweeps", json={"config": config}).status_code == status


def test_a_body_in_chunks_is_bounded_too(service):
    chunks = (b"x" * 10_000 for _ in range(40))
    assert service.client("ada").post("/sweeps", content=chunks).status_code == 413


def test_code_only_of_users_who_may_run_it(service):
    overrides = ["model.trust_remote_code=true", "heldout.areas.tables.scorers=[os:system]"]
    assert service.client("coda").post("/plan", json=sent("first", *overrides)).status_code == 200


def test_a_link_below_a_root_leads_nowhere_else(service):
    link = service.storage / "link.jsonl"
    link.symlink_to("/etc/passwd")
    path = service.folder / "users.yaml"
    path.write_text(path.read_text().replace(str(ROOT / "conf"), str(service.storage)))
    for place in (link, service.folder / "audit.jsonl"):  # nor to the service's own files
        answer = service.client("ada").post("/plan", json=sent("first", f"data.train={place}"))
        assert answer.status_code == 422
        assert "data.train: must lie below" in answer.text


WEBHOOKS = {
    "https://hooks.example.com/T0": True,
    "https://HOOKS.example.com:443/T0?a=b": True,
    "https://hooks.example.com@169.254.169.254/": False,
    "https://169.254.169.254\\\\@hooks.example.com/": False,
    "https://169.254.169.254#@hooks.example.com/": False,
    "https://hooks.example.com.evil.example/": False,
    "https://2852039166/": False,  # 169.254.169.254 as one number
    "https://metadata.example/": False,  # on the list, but leads to the metadata
    "https://mapped.example/": False,
    "file://hooks.example.com/etc/passwd": False,
    "gopher://hooks.example.com/": False,
    "env:HOME": False,
}
MLFLOW = ["https://mlflow.lan", "sqlite:////data/mlflow.db"]


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        *((uri, 200) for uri in MLFLOW),
        ("https://mlflow.lan/x", 422),
        ("https://mlflow.lan:80", 422),
        ("http://mlflow.lan", 422),
        ("sqlite:////data/mlflow.db?x=/etc", 422),
        ("sqlite:////data/../etc/mlflow.db", 422),
    ],
)
def test_a_tracking_uri_is_one_that_the_admin_has_written(service, uri, status):
    path = service.folder / "users.yaml"
    path.write_text(path.read_text().replace("mlflow: []", f"mlflow: [{', '.join(MLFLOW)}]"))
    answer = service.client("ada").post("/plan", json=sent("first", f"mlflow.tracking_uri={uri}"))
    assert answer.status_code == status, answer.text


ADDRESSES = {
    "hooks.example.com": "203.0.113.7",
    "metadata.example": "169.254.169.254",
    "mapped.example": "::ffff:169.254.169.254",
}


@pytest.mark.parametrize(("address", "allowed"), WEBHOOKS.items(), ids=WEBHOOKS)
def test_a_webhook_goes_to_an_allowed_host_alone(service, monkeypatch, address, allowed):
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, _: [(0, 0, 0, "", (ADDRESSES[host], 0))])
    path = service.folder / "users.yaml"
    path.write_text(path.read_text().replace("webhooks: []", f"webhooks: [{', '.join(ADDRESSES).upper()}]"))
    answer = service.client("ada").post("/plan", json=sent("first", f'notify.webhook="{address}"'))
    assert answer.status_code == (200 if allowed else 422), answer.text
    assert allowed or "notify.webhook" in answer.text
