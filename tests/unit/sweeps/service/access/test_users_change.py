"""users.yaml changes while sweeps wait and users watch; what it says wrong reaches no stranger."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from sweeps.service.access.checks import refuse_foreign
from sweeps.service.access.users import Users
from sweeps.service.runs.attempts import Seen
from sweeps.service.runs.runner import Runner
from sweeps.service.view import rows, view
from tests.unit.sweeps.service.conftest import sent


class Idle:
    """Stands for a place where sweeps run: each lives from its beginning."""

    where, keeps_order, look_every_seconds = "processes", False, 0.01

    def __init__(self):
        self.begun = []

    def begin(self, entry, *_):
        self.begun.append(entry.name)

    def look(self, entries):
        return {entry.name: Seen(lives=False, code=0) for entry in entries}

    def errors(self, _):
        return ""


def edit(service, change):
    path = service.folder / "users.yaml"
    tree = yaml.safe_load(path.read_text())
    change(tree)
    path.write_text(yaml.safe_dump(tree))


def runner(service, place):
    from sweeps.config.sweep_config import load_config

    users = Users(service.folder)

    def check(entry):
        refuse_foreign(load_config(service.queue.config(entry)), users.read().allowed, users.user(entry.user))

    return Runner(service.queue, service.storage, place, users.parts, check=check)


@pytest.mark.parametrize("keeps_order", [False, True])
def test_a_sweep_of_a_user_who_is_gone_waits_and_says_so_and_the_others_pass_it(service, keeps_order):
    service.client("bob").post("/sweeps", json=sent("his"))
    service.client("ada").post("/sweeps", json=sent("hers"))
    gone = {}
    edit(service, lambda tree: gone.update(tree["users"].pop("bob")) or None)
    place = Idle()
    place.keeps_order = keeps_order
    work = runner(service, place)
    waits = {one["id"]: one["waits_for"] for one in service.client("root").get("/queue").json()}
    assert waits == {"his": "bob to be in users.yaml again", "hers": None}
    for _ in range(3):
        work.step()
    assert place.begun == ["hers"]
    edit(service, lambda tree: tree["users"].update(bob=gone))
    work.step()
    assert place.begun == ["hers", "his"]


CHANGES = {
    "code": (["model.trust_remote_code=true"], lambda tree: tree["users"]["coda"].update(may_run_code=False)),
    "roots": ([], lambda tree: tree["allowed"].update(roots=["/nowhere"])),
    "webhook": (["notify.webhook=env:HOOK"], lambda tree: tree["allowed"].update(webhooks=[])),
    "mlflow": (["mlflow.tracking_uri=https://mlflow.lan"], lambda tree: tree["allowed"].update(mlflow=[])),
}


@pytest.mark.parametrize(("overrides", "change"), CHANGES.values(), ids=CHANGES)
def test_what_is_allowed_is_asked_again_when_a_sweep_begins(service, overrides, change):
    edit(service, lambda tree: tree["allowed"].update(webhooks=["env:HOOK"], mlflow=["https://mlflow.lan"]))
    assert service.client("coda").post("/sweeps", json=sent("first", *overrides)).status_code == 201
    edit(service, change)
    place = Idle()
    runner(service, place).step()
    entry = service.queue.get("first")
    assert (place.begun, entry.state, entry.outcome) == ([], "ended", "refused")
    assert entry.error.startswith("error: ")


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree["users"].pop("ada"),
        lambda tree: tree["users"]["ada"].update(token="another$hash"),
        lambda tree: tree.update(users=[]),
    ],
    ids=["removed", "another token", "damaged"],
)
def test_who_is_no_user_any_more_watches_no_further(service, monkeypatch, change):
    monkeypatch.setattr(view, "LOOK_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(rows, "FRESH_SECONDS", 0.0)
    service.client("ada").post("/sweeps", json=sent())
    edit(service, lambda tree: tree["users"]["bob"].update(share=2.0))  # of another user: the stream goes on
    began = time.monotonic()
    seen = []
    with service.client("ada").stream("GET", "/sweeps/first/events") as stream:
        edit(service, change)
        seen = [line for line in stream.iter_lines() if line.startswith("data: ")]
    assert len(seen) <= 1
    assert time.monotonic() - began < 20


BROKEN = {
    "users are a list": "users: [{name: ada, token: abcd$secrethash}]",
    "a user is a text": "users: {ada: abcd$secrethash}",
    "a key is misspelled": "users: {ada: {tokn: abcd$secrethash}}",
    "a role is unknown": "users: {ada: {token: abcd$secrethash, role: Admin}}",
    "a user stands twice": "users: {ada: {token: abcd$secrethash}, ada: {token: a$b, role: admin}}",
    "a section stands twice": "users: {}\nusers: {ada: {token: abcd$secrethash}}",
    "an alias": "users: &u {ada: {token: abcd$secrethash}}\nallowed: *u",
    "no UTF-8": b"users: {\xff: 1}",
    "no YAML": "users: {abcd$secrethash",
    "empty": "",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_mistake_in_the_file_is_told_to_the_admin_and_to_no_stranger(service, capsys, content):
    path = service.folder / "users.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for name in ("nobody", "root"):
        answer = service.client(name).get("/sweeps")
        assert answer.status_code == 503
        assert answer.json() == {"errors": [
            "error: users.yaml: must be right, got a mistake in it; see what the service has printed"]}  # fmt: skip
    said = capsys.readouterr().err
    assert said.startswith("error: users.yaml")
    assert "secrethash" not in said
    assert len(said.splitlines()) == 1  # not once a request


def test_a_folder_in_place_of_the_file_is_no_error_of_the_server(service):
    path = service.folder / "users.yaml"
    path.unlink()
    assert service.client("root").get("/sweeps").status_code == 401
    path.mkdir()
    assert service.client("root").get("/sweeps").status_code == 503


@pytest.mark.parametrize("error", [ValueError("no JSON"), KeyError("items"), RuntimeError("x"), OSError(28, "full")])
def test_no_error_of_a_place_ends_the_queue(service, capsys, error):
    class Failing(Idle):
        tries = 0

        def look(self, entries):
            self.tries += 1
            if self.tries == 3:
                work.end()
            raise error

    place = Failing()
    work = Runner(service.queue, service.storage, place)
    work.run()
    said = capsys.readouterr().err.splitlines()
    assert (place.tries, len(said), said[0].startswith("error: the queue waits: ")) == (3, 1, True)


DEEP = "[" * 100_000


@pytest.mark.parametrize("file", ["leaderboard.json", "trials.jsonl", "trials/t0001/curve.jsonl", "manifest.json"])
def test_files_that_nest_deep_are_no_error_of_the_server(service, file):
    (service.storage / "old" / file).write_text(f"{DEEP}\n{{}}\n")
    client = service.client("reed")
    for path in ("", "/leaderboard", "/trials/t0001/curve", "/events"):
        assert client.get(f"/sweeps/old{path}").status_code in (200, 422), path
    assert client.get("/page/sweeps/old").status_code == 200


def test_a_folder_whose_name_is_no_text_spoils_no_list(service):
    import os

    place = os.fsencode(service.storage) + b"/bad\xff"
    os.makedirs(place)
    with open(place + b"/sweep.yaml", "w") as file:
        file.write("name: x")
    client = service.client("reed")
    assert {row["name"]: row["state"] for row in client.get("/sweeps").json()} == {
        "old": "interrupted", "bad\ufffd": "damaged"}  # fmt: skip
    for path in ("/", "/page/sweeps/bad%EF%BF%BD"):
        assert client.get(path).status_code == 200
    assert json.loads(client.get("/sweeps/bad%EF%BF%BD").text)["trial_ids"] == []


def test_users_who_are_added_at_one_moment_are_all_there(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda number: Users(tmp_path).add(f"u{number}", "user"), range(24)))
    users = Users(tmp_path)
    assert [users.who(token) for token in tokens] == [f"u{number}" for number in range(24)]
