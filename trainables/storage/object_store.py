"""A folder in an object store: `s3://bucket/prefix` or `gs://bucket/prefix`, by the library obstore.

Credentials come from the environment alone (`AWS_ACCESS_KEY_ID`, … or the machine's role). A store that does not answer
is asked again for a bounded time, and the user is told; what can't be right by waiting is an error at once.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import obstore
from obstore import exceptions
from obstore.store import GCSStore, S3Store

from trainables.errors import UserError
from trainables.redaction import has_credential, redact
from trainables.reliability import watchdog

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 300.0
"""How long a request is tried again. Ours: longer than a store's usual trouble, shorter than a GPU-hour."""
FIRST_CONTACT_SECONDS = 10.0
"""Likewise for the first request of a command: a wrong address should not take minutes to tell."""
LONGEST_PAUSE_SECONDS = 15.0
PART_BYTES = 8 * 2**20
NO_BUCKET = "NoSuchBucket"
AT_ONCE = 16
"""Small objects that are fetched at the same time."""

_URL = re.compile(r"(?P<scheme>s3|gs)://(?P<bucket>[^/?#@\s]+)/(?P<prefix>[^?#]*)")
_STATUS = re.compile(r"status code: (\d{3})")
_AGAIN = frozenset((408, 409, 429))

T = TypeVar("T")


class StoreError(UserError):
    """An object store that can't be used: it does not answer, denies access, or has no such bucket."""


class Version(NamedTuple):
    """Which content of an object is meant, in a conditional put."""

    e_tag: str | None
    version: str | None


class Found(NamedTuple):
    """An object as it was read: its bytes, their version, and when it was written, in the store's own time."""

    data: bytes
    version: Version
    unix_seconds: float


def is_url(place: str) -> bool:
    """Whether a place is given as a URL, not as a folder."""
    return "://" in place


def check_url(url: str, where: str) -> str:
    """The URL of a folder in an object store, without a slash at its end.

    Args:
        url: What the user gave.
        where: Names it in the error.

    Raises:
        UserError: It is none, or holds a credential.
    """
    match = _URL.fullmatch(f"{url.rstrip('/')}/")
    parts = match["prefix"].split("/")[:-1] if match else []
    if not match or any(part in ("", ".", "..") for part in parts):
        rule = "must be a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"
        if "@" in url.partition("://")[2] or has_credential(url):
            rule = "must hold no credential"
            raise UserError(where, rule, redact(url), "put it into the environment (AWS_ACCESS_KEY_ID, …)")
        raise UserError(where, rule, url, "correct it")
    return url.rstrip("/")


class Remote:
    """The objects below a URL. Safe to use from several threads.

    Args:
        url: As `check_url` takes it.
        patience_seconds: How long a request is tried again while the store does not answer.

    Raises:
        UserError: The URL is none of an object store's.
    """

    def __init__(self, url: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.url = check_url(url, url)
        self.patience_seconds = patience_seconds
        self._reached = self._gave_up = False
        # Whole requests may be large: only one that stalls is given up. Trying again is ours, for it has to be said.
        options: Any = {"allow_http": True, "timeout": "6h", "read_timeout": "60s"}
        make: Any = S3Store if url.startswith("s3:") else GCSStore
        try:
            self._store = make.from_url(self.url, retry_config={"max_retries": 0}, client_options=options)
        except exceptions.BaseError as error:
            remedy = "check the credentials in the environment"
            raise StoreError(self.url, "must be an object store that can be opened", _reason(error), remedy) from None

    def get(self, key: str) -> bytes | None:
        """An object's bytes; None where there is none."""
        found = self.read(key)
        return found.data if found else None

    def read(self, key: str) -> Found | None:
        """An object with its version; None where there is none."""

        def ask() -> Found:
            answer = obstore.get(self._store, key)
            meta = answer.meta
            version = Version(meta["e_tag"], meta["version"])
            return Found(bytes(answer.bytes()), version, meta["last_modified"].timestamp())

        return self._ask(ask)

    def put(self, key: str, data: bytes | Path) -> Version:
        """Writes an object, whole, in place of what was there."""
        done: Any = self._ask(
            lambda: obstore.put(self._store, key, data, chunk_size=PART_BYTES, max_concurrency=8), is_missing=False
        )
        return Version(done["e_tag"], done["version"])

    def create(self, key: str, data: bytes) -> Version | None:
        """Writes an object that must not be there yet; None where another is.

        Where the answer to a try was lost, the next finds the object there: then its bytes tell whose it is. So what
        is created must be unlike anything that others create.
        """
        return self._conditionally(key, data, "create")

    def replace(self, key: str, data: bytes, version: Version) -> Version | None:
        """Writes an object in place of a version of it; None where that is no longer there. As for `create`."""
        known = {name: value for name, value in version._asdict().items() if value}
        return self._conditionally(key, data, known)

    def listed(self, folder: str = "") -> dict[str, str]:
        """Every object below a folder: its e-tag by its key, keys in order."""

        def ask() -> dict[str, str]:
            pages = obstore.list(self._store, folder or None, chunk_size=1000)
            return {meta["path"]: meta["e_tag"] or "" for page in pages for meta in page}

        found = self._ask(ask, is_missing=False)
        assert found is not None
        return dict(sorted(found.items()))

    def drop(self, folder: str) -> None:
        """Removes every object below a folder, and the object of that name."""
        keys = [folder, *self.listed(folder)]
        for start in range(0, len(keys), 1000):
            part = keys[start : start + 1000]
            self._ask(partial(obstore.delete, self._store, part))

    def fetch(self, key: str, to: Path) -> Version | None:
        """Reads an object into a file, which appears when it is whole; None where there is no object."""

        def ask() -> Version:
            answer = obstore.get(self._store, key)
            with beside.open("wb") as file:
                for chunk in answer.stream(min_chunk_size=PART_BYTES):
                    file.write(chunk)
            return Version(answer.meta["e_tag"], answer.meta["version"])

        to.parent.mkdir(parents=True, exist_ok=True)
        beside = to.with_name(f".{to.name}.{time.time_ns()}")
        try:
            version = self._ask(ask)
            if version:
                beside.replace(to)
            return version
        finally:
            beside.unlink(missing_ok=True)

    def get_all(self, keys: Iterable[str]) -> list[bytes | None]:
        """Many small objects, in order."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self.get, keys))

    def _conditionally(self, key: str, data: bytes, mode: Any) -> Version | None:
        try:
            done: Any = self._ask(lambda: obstore.put(self._store, key, data, mode=mode), is_missing=False)
            return Version(done["e_tag"], done["version"])
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            there = self.read(key)
            return there.version if there and there.data == data else None

    def _ask(self, ask: Callable[[], T], *, is_missing: bool = True) -> T | None:
        """Asks until there is an answer, or it is clear that there will be none; None where the object is missing."""
        began, pause, said = time.monotonic(), 0.25, False
        while True:
            try:
                answer = ask()
                break
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                raise
            except (FileNotFoundError, PermissionError, exceptions.BaseError) as error:
                if isinstance(error, FileNotFoundError) and is_missing and NO_BUCKET not in str(error):
                    answer = None
                    break
                left = self._seconds_left(error, began)
                if not said:
                    words = "%s does not answer (%s): trying again for %.0f seconds"
                    logger.warning(words, self.url, _reason(error), left)
                said = True
                watchdog.beat()  # a wait that has an end is no hang
                time.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        self._reached, self._gave_up = True, False
        if said:
            logger.warning("%s answers again", self.url)
        return answer

    def _seconds_left(self, error: Exception, began: float) -> float:
        """For how long an error may be waited out.

        Raises:
            StoreError: There is nothing to wait for, or the patience has come to its end.
        """
        reason, look = _reason(error), "check the credentials in the environment"
        if NO_BUCKET in str(error):
            raise StoreError(self.url, "must lie in a bucket that exists", reason, "create it, or name another")
        if not _may_pass(error):
            raise StoreError(self.url, "must be open to you", reason, f"{look}, and what they may do in this bucket")
        patience = self.patience_seconds if self._reached else min(FIRST_CONTACT_SECONDS, self.patience_seconds)
        left = began + patience - time.monotonic()
        if left <= 0 or self._gave_up:
            self._gave_up = True
            remedy = f"check the network, AWS_ENDPOINT_URL and {look.removeprefix('check ')}; then go on"
            raise StoreError(self.url, f"must answer within {patience:.0f} seconds", reason, remedy)
        return left


def _may_pass(error: Exception) -> bool:
    """Whether an error may be gone in a while: a server's trouble, or no answer at all."""
    if isinstance(error, PermissionError | exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return False
    status = _STATUS.search(str(error))
    return status is None or int(status[1]) >= 500 or int(status[1]) in _AGAIN


def _reason(error: Exception) -> str:
    """The error in a line."""
    text = str(error).partition("Debug source")[0]
    code = re.search(r"<Code>(\w+)</Code>", text)
    status = _STATUS.search(text)
    if code or status:
        return " ".join([*([f"status {status[1]}"] if status else []), *([code[1]] if code else [])])
    return redact(" ".join(text.split())[:200])
