"""Who may use the service: `users.yaml`, with hashes of tokens, roles, and what a posted config may name."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analysis.records.bounded_yaml import load_bounded
from sweeps.service.queue.shares import Part
from trainables.config.yaml_text import compose, values_of
from trainables.errors import UserError, UserErrors
from trainables.storage.atomic import write_whole

USERS_FILE = "users.yaml"
# 16 MiB and some 50 ms a try. Tokens are random, so a guess needs 2^256 tries whatever a try costs.
SCRYPT = {"n": 2**14, "r": 8, "p": 1}
TOKEN_BYTES = 32
REMEMBERED = 1000  # tokens whose hash was computed since the file last changed

Role = Literal["reader", "user", "admin"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class User(_Strict):
    """A user.

    Attributes:
        token: `SALT$HASH` of the token, both in base64.
        role: A reader sees everything; a user also sends sweeps, and changes those of their own; an admin changes all.
        may_run_code: Whether configs may name `package.module:function` scorers and set `trust_remote_code`.
        share: Part of the machine that is due to the user, against the others' shares.
        hours_a_month: Device-hours that the user's sweeps may cost in 30 days; null for no quota.
        scheduler_queue: With `--scheduler`: Slurm's account or Kueue's local queue of the user's sweeps.
    """

    token: str
    role: Role = "user"
    may_run_code: bool = False
    share: float = Field(1.0, gt=0, allow_inf_nan=False)
    hours_a_month: float | None = Field(None, ge=0, allow_inf_nan=False)
    scheduler_queue: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")

    @property
    def part(self) -> Part:
        """What is due to the user."""
        return Part(self.share, self.hours_a_month)


class Allowed(_Strict):
    """What posted configs may name.

    Attributes:
        roots: Folders below which data, models and parent sweeps lie.
        hub: Beginnings of Hugging Face ids; "" allows all.
        webhooks: Hosts, and `env:NAME` by name.
        mlflow: Tracking URIs, as configs name them.
    """

    roots: list[Path] = []
    hub: list[str] = []
    webhooks: list[str] = []
    mlflow: list[str] = []


class UsersFile(_Strict):
    """Content of `users.yaml`."""

    allowed: Allowed = Allowed()
    users: dict[Name, User] = {}


class Users:
    """The users of `users.yaml`, read again when the file changes.

    Args:
        folder: The service's.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / USERS_FILE
        self._lock = threading.Lock()
        self._stamp = -1
        self._file = UsersFile()
        self._known: dict[bytes, str] = {}

    def read(self) -> UsersFile:
        """The file's content.

        Raises:
            UserError: It can't be read, or holds something else.
        """
        with self._lock:
            return self._read()

    def _read(self) -> UsersFile:
        try:
            stamp = self.path.stat().st_mtime_ns
            if stamp != self._stamp:
                content = self.path.read_bytes()
                load_bounded(content)
                # This reading refuses a key that stands twice, of which YAML's own would silently take the last.
                tree = values_of(compose(content.decode(), USERS_FILE), USERS_FILE)
                self._file = UsersFile.model_validate(tree)
                self._stamp, self._known = stamp, {}
        except FileNotFoundError:
            return UsersFile()
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, (USERS_FILE, *fault["loc"])))
            # The value is not shown: it may be a token's hash.
            raise UserError(where, fault["msg"], f"a {type(fault['input']).__name__}", "mend the file") from None
        except OSError as error:
            raise UserError(USERS_FILE, "must be readable", error.strerror, "mend the file") from None
        except UserErrors as error:
            first = error.errors[0]
            raise UserError(f"{USERS_FILE} {first.where}", first.rule, first.got, first.remedy) from None
        except UserError:
            raise
        except ValueError as error:
            raise UserError(USERS_FILE, "must be YAML", error, "mend the file") from None
        return self._file

    def parts(self) -> dict[str, Part]:
        """What is due to each user."""
        return {name: user.part for name, user in self.read().users.items()}

    def user(self, name: str) -> User:
        """A user by name.

        Raises:
            UserError: There is none any more.
        """
        if found := self.read().users.get(name):
            return found
        raise UserError("user", "must be in users.yaml", name, "ask the service's admin")

    def add(self, name: str, role: Role, *, may_run_code: bool = False, roots: list[Path] | None = None) -> str:
        """Adds a user and returns the token, which is kept nowhere else.

        Raises:
            UserError: The name is taken, or no name.
        """
        with _alone(self.path.parent):
            return self._add(name, role, may_run_code, roots)

    def _add(self, name: str, role: Role, may_run_code: bool, roots: list[Path] | None) -> str:
        file = self.read()
        if name in file.users:
            remedy = f"take another name, or remove it from {self.path} first"
            raise UserError("--add-user", "must be a new name", name, remedy)
        token = f"{name}.{secrets.token_urlsafe(TOKEN_BYTES)}"
        tree = file.model_dump(mode="json")
        tree["users"][name] = {"token": hashed(token), "role": role, "may_run_code": may_run_code}
        if roots is not None:
            tree["allowed"]["roots"] = [str(root) for root in roots]
        try:
            UsersFile.model_validate(tree)
        except ValidationError:
            remedy = "take letters, digits, `-` and `_`, 64 at most"
            raise UserError("--add-user", "must be a plain name", name, remedy) from None
        write_whole(self.path, yaml.safe_dump(tree, sort_keys=False))
        self.path.chmod(0o600)
        return token

    def remembered(self, token: str) -> str | None:
        """The name of the user with this token, if it was right before and `users.yaml` is the same; else None."""
        users = self.read().users
        known = self._known.get(_key(token))
        return known if known in users else None

    def who(self, token: str) -> str | None:
        """The name of the user with this token; None for a wrong one."""
        with self._lock:
            users, stamp = self._read().users, self._stamp
        name = token.partition(".")[0]
        # A name that is unknown takes as long as a wrong token.
        stored = users[name].token if name in users else hashed("")
        if not matches(token, stored) or name not in users:
            return None
        with self._lock:
            # Not where the file has changed since: the token may have been revoked while it was hashed.
            if stamp == self._stamp and len(self._known) < REMEMBERED:
                self._known[_key(token)] = name
        return name


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    # Of two commands that add users at one moment, the second would write the file without the first's.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def hashed(token: str) -> str:
    """`SALT$HASH` of a token, by scrypt."""
    salt = secrets.token_bytes(16)
    return f"{base64.b64encode(salt).decode()}${base64.b64encode(_scrypt(token, salt)).decode()}"


def matches(token: str, stored: str) -> bool:
    """Whether a token has this hash; a hash that is damaged matches none."""
    salt, _, digest = stored.partition("$")
    try:
        return hmac.compare_digest(_scrypt(token, base64.b64decode(salt)), base64.b64decode(digest))
    except ValueError:
        return False


def _scrypt(token: str, salt: bytes) -> bytes:
    return hashlib.scrypt(token.encode("utf-8", "replace"), salt=salt, **SCRYPT)
