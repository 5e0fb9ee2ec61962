"""A posted config: the command line's own checks, and what a stranger's config must not do on this machine.

It is read within bounds and without interpolation, and it may name only what `users.yaml` allows.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.records.bounded_yaml import load_bounded
from analysis.records.lineage import LINK
from sweeps.config.environment import is_path
from sweeps.config.sections import FROM_ENVIRONMENT
from sweeps.config.sweep_config import SweepConfig, load_config
from sweeps.service.access.users import Allowed, User
from sweeps.service.queue.queue import SERVICE_FOLDER
from trainables.config.fields import Place, dotted
from trainables.errors import UserError, UserErrors
from trainables.models.pretrained import is_hub_id
from trainables.storage.object_store import is_url

LARGEST_CONFIG = 64 * 1024  # characters; the longest config of this project has 4,000
MOST_OVERRIDES, LONGEST_OVERRIDE = 100, 2000
# Where clouds serve a machine's credentials beside the link-local 169.254.169.254: AWS, Alibaba, Oracle.
METADATA = ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")
PLAIN_ADDRESS = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:[/?][\x21-\x5b\x5d-\x7e]*)?")
CODE = "users.yaml must allow this user to run code (may_run_code)"


def checked_config(text: str, overrides: list[str], allowed: Allowed, user: User) -> SweepConfig:
    """The config that a user posted.

    Args:
        text: YAML.
        overrides: `key=value` texts.
        allowed: What configs may name.
        user: Who posted it.

    Raises:
        UserError, UserErrors: As the command line says it, or what it must not name.
    """
    _refuse_hostile(text, overrides)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            config = load_config(path, overrides)
        except UserError as error:  # the file's name means nothing to the user
            raise UserError(error.where.replace(str(path), "config"), error.rule, error.got, error.remedy) from None
    refuse_foreign(config, allowed, user)
    return config


def refuse_foreign(config: SweepConfig, allowed: Allowed, user: User) -> None:
    """Refuses a config that runs code, or names places or hosts, which `users.yaml` does not allow.

    Raises:
        UserErrors: All that it must not name.
    """
    if refused := [*_foreign_code(config, user), *_foreign_places(config, allowed), *_foreign_hosts(config, allowed)]:
        raise UserErrors(refused)


def _refuse_hostile(text: str, overrides: list[str]) -> None:
    if len(text) > LARGEST_CONFIG:
        raise UserError("config", f"must have at most {LARGEST_CONFIG:,} characters", f"{len(text):,}", "shorten it")
    if len(overrides) > MOST_OVERRIDES or any(len(one) > LONGEST_OVERRIDE for one in overrides):
        rule = f"must be {MOST_OVERRIDES} at most, of {LONGEST_OVERRIDE:,} characters each"
        raise UserError("overrides", rule, "more", "put them into the config")
    for where, one in [("config", text), *(("overrides", one.partition("=")[2]) for one in overrides)]:
        try:
            tree = load_bounded(one)
        except ValueError as error:
            raise UserError(where, "must be plain YAML", error, "mend that place") from None
        for found in _texts(tree):
            # As read, not as written: "\\x24{" is one, too.
            if "${" in found:
                remedy = "write the value itself"
                raise UserError(where, "must hold no interpolation: it could read secrets", found[:60], remedy)
    if keys := [one for one in overrides if "${" in one or len(re.findall(r"[.\[]", one.partition("=")[0])) > 20]:
        raise UserError("overrides", "must be plain key=value", keys[0][:60], "write for instance search.trials=8")


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(tree, list | tuple | set):
        for value in tree:
            yield from _texts(value)
    elif isinstance(tree, str):
        yield tree


def _foreign_code(config: SweepConfig, user: User) -> Iterator[UserError]:
    if user.may_run_code:
        return
    if config.model.trust_remote_code:
        yield UserError("model.trust_remote_code", CODE, "true", "set it to false")
    for name, area in config.heldout.areas.items():
        for scorer in area.scorers:
            for own in [scorer] if isinstance(scorer, str) else scorer:
                if ":" in str(own):
                    yield UserError(f"heldout.areas.{name}.scorers", CODE, own, "take a scorer of the project")


def _foreign_places(config: SweepConfig, allowed: Allowed) -> Iterator[UserError]:
    # Every key that the config knows as a path: one that is added later is checked, too.
    for where, leaf in _leaves(config.model_dump(mode="json")):
        if not isinstance(leaf, str) or not is_path(where) or where == ("storage_path",):
            continue
        is_data = where[:2] in (("data", "train"), ("model", "name")) or where[0] == "heldout"
        if where == ("parent",) and LINK.fullmatch(leaf):
            continue
        if where == ("model", "name") and leaf.startswith("random:"):
            continue
        yield from _outside(dotted(where), leaf, allowed, may_be_hub=is_data)


def _leaves(tree: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    if isinstance(tree, dict | list):
        for key, inner in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(inner, (*place, key))
    else:
        yield place, tree


def _outside(where: str, place: str, allowed: Allowed, *, may_be_hub: bool) -> Iterator[UserError]:
    roots = ", ".join(map(str, allowed.roots)) or "none"
    if is_url(place) or "\0" in place:
        yield UserError(where, f"must lie below an allowed folder ({roots})", place, "copy it there")
    elif may_be_hub and is_hub_id(place) and not place.lower().endswith((".jsonl", ".gz", ".parquet")):
        if not any(place.startswith(begin) for begin in allowed.hub):
            listed = ", ".join(begin or "all" for begin in allowed.hub) or "none"
            yield UserError(where, f"must be a hub id that the service allows ({listed})", place, "ask its admin")
    elif SERVICE_FOLDER in _real(place).parts or not any(
        _real(place).is_relative_to(_real(root)) for root in allowed.roots
    ):
        yield UserError(where, f"must lie below an allowed folder ({roots})", place, "copy it there")


def _real(place: str | Path) -> Path:
    # With all links followed: a link below a root may lead out of it. `Path.resolve` fails where links form a loop.
    return Path(os.path.realpath(os.path.expanduser(place)))


def _foreign_hosts(config: SweepConfig, allowed: Allowed) -> Iterator[UserError]:
    uri = config.mlflow.tracking_uri
    if uri is not None and uri not in allowed.mlflow:  # a server inside, or a database file of this machine
        rule = f"must be a tracking URI that the service allows ({', '.join(allowed.mlflow) or 'none'})"
        yield UserError("mlflow.tracking_uri", rule, uri, "leave it out, or ask its admin")
    address = config.notify.webhook
    if address is None or address in allowed.webhooks:
        return
    hosts = ", ".join(allowed.webhooks) or "none"
    rule = f"must go to a host that the service allows ({hosts})"
    # One form of address, in which all programs that read it see the same host.
    host = found[1].lower().strip("[]") if (found := PLAIN_ADDRESS.fullmatch(address)) else None
    if host is None or host not in {one.lower() for one in allowed.webhooks}:
        shown = host or (address if address.startswith(FROM_ENVIRONMENT) else "no plain https://HOST/PATH")
        yield UserError("notify.webhook", rule, shown, "leave it out, or ask its admin")
    elif _is_metadata(host):
        yield UserError("notify.webhook", "must not lead to a cloud's metadata", host, "leave it out")


def _is_metadata(host: str) -> bool:
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:  # unknown here: the sweep's own post will say so
        return False
    return any(_is_metadata_address(ipaddress.ip_address(str(one).partition("%")[0])) for one in found)


def _is_metadata_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (inner or address).is_link_local or str(inner or address) in METADATA
