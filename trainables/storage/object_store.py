"""Client of a folder in an object store, `s3://bucket/prefix` or `gs://bucket/prefix`, on the library obstore.

Credentials come only from the environment (`AWS_ACCESS_KEY_ID`, …) or the machine's role. Requests are retried for a
bounded time where a retry can help, with a warning; other errors are raised at once.
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

# How long a request is retried. Our choice: longer than a store's usual trouble, shorter than a GPU-hour.
PATIENCE_SECONDS = 300.0
# The same for the first request of a command: a wrong address should not take minutes to report.
FIRST_CONTACT_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 15.0
PART_BYTES = 8 * 2**20
NO_BUCKET = "NoSuchBucket"
AT_ONCE = 16  # parallel requests for small objects

_URL = re.compile(r"(?P<scheme>s3|gs)://(?P<bucket>[^/?#@\s]+)/(?P<prefix>[^?#]*)")
_STATUS = re.compile(r"status code: (\d{3})")
_RETRIED = frozenset((408, 409, 429))  # time-out, conflict, too many requests; and all of 5xx

T = TypeVar("T")


class StoreError(UserError):
    """An object store does not answer, denies access, or has no such bucket."""


class Version(NamedTuple):
    """Version of an object's content, for a conditional put."""

    e_tag: str | None
    version: str | None


class Found(NamedTuple):
    """An object that was read: its bytes, their version, and the time of writing by the store's clock."""

    data: bytes
    version: Version
    unix_seconds: float


def is_url(place: str) -> bool:
    """Whether a place is a URL rather than a folder."""
    return "://" in place


def check_url(url: str, where: str) -> str:
    """Check the URL of a folder in an object store; return it without a trailing slash.

    Args:
        url: The user's value.
        where: Name of the setting in the error.

    Raises:
        UserError: The URL is malformed or holds a credential.
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
    """The objects below a URL. Thread-safe.

    Args:
        url: As for `check_url`.
        patience_seconds: How long a request is retried while the store does not answer.

    Raises:
        UserError: The URL is not one of an object store.
    """

    def __init__(self, url: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.url = check_url(url, url)
        self.patience_seconds = patience_seconds
        self._reached = self._gave_up = False
        # A whole request may be large, so only one that stalls times out. obstore must not retry: it does so silently.
        options: Any = {"allow_http": True, "timeout": "6h", "read_timeout": "60s"}
        make: Any = S3Store if url.startswith("s3:") else GCSStore
        try:
            self._store = make.from_url(self.url, retry_config={"max_retries": 0}, client_options=options)
        except exceptions.BaseError as error:
            remedy = "check the credentials in the environment"
            raise StoreError(self.url, "must be an object store that can be opened", _reason(error), remedy) from None

    def get(self, key: str) -> bytes | None:
        """Read an object's bytes; None if it does not exist."""
        found = self.read(key)
        return found.data if found else None

    def read(self, key: str) -> Found | None:
        """Read an object with its version; None if it does not exist."""

        def ask() -> Found:
            answer = obstore.get(self._store, key)
            meta = answer.meta
            version = Version(meta["e_tag"], meta["version"])
            return Found(bytes(answer.bytes()), version, meta["last_modified"].timestamp())

        return self._ask(ask)

    def put(self, key: str, data: bytes | Path) -> Version:
        """Write an object whole, replacing any content."""
        done: Any = self._ask(
            lambda: obstore.put(self._store, key, data, chunk_size=PART_BYTES, max_concurrency=8), is_missing=False
        )
        return Version(done["e_tag"], done["version"])

    def create(self, key: str, data: bytes) -> Version | None:
        """Write an object that must not exist yet; None if another one does.

        Its bytes must differ from those that any other process creates; see `_conditionally`.
        """
        return self._conditionally(key, data, "create")

    def replace(self, key: str, data: bytes, version: Version) -> Version | None:
        """Replace one version of an object, as `create` writes; None if that version is gone."""
        known = {name: value for name, value in version._asdict().items() if value}
        return self._conditionally(key, data, known)

    def listed(self, folder: str = "") -> dict[str, str]:
        """List the objects below a folder: e-tags by key, sorted by key."""

        def ask() -> dict[str, str]:
            pages = obstore.list(self._store, folder or None, chunk_size=1000)
            return {meta["path"]: meta["e_tag"] or "" for page in pages for meta in page}

        found = self._ask(ask, is_missing=False)
        assert found is not None
        return dict(sorted(found.items()))

    def drop(self, folder: str) -> None:
        """Remove every object below a folder, and the object of that name."""
        keys = [folder, *self.listed(folder)]
        for start in range(0, len(keys), 1000):  # the most that one request of S3 deletes
            part = keys[start : start + 1000]
            self._ask(partial(obstore.delete, self._store, part))

    def fetch(self, key: str, to: Path) -> Version | None:
        """Read an object into a file, which appears when it is whole; None if the object does not exist."""

        def ask() -> Version:
            answer = obstore.get(self._store, key)
            with temporary.open("wb") as file:
                for chunk in answer.stream(min_chunk_size=PART_BYTES):
                    file.write(chunk)
            return Version(answer.meta["e_tag"], answer.meta["version"])

        to.parent.mkdir(parents=True, exist_ok=True)
        temporary = to.with_name(f".{to.name}.{time.time_ns()}")
        try:
            version = self._ask(ask)
            if version:
                temporary.replace(to)
            return version
        finally:
            temporary.unlink(missing_ok=True)

    def get_all(self, keys: Iterable[str]) -> list[bytes | None]:
        """Read many small objects in parallel, in order."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self.get, keys))

    def _conditionally(self, key: str, data: bytes, mode: Any) -> Version | None:
        try:
            done: Any = self._ask(lambda: obstore.put(self._store, key, data, mode=mode), is_missing=False)
            return Version(done["e_tag"], done["version"])
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            # If the answer to an earlier try was lost, this process's own object is there: its bytes tell.
            there = self.read(key)
            return there.version if there and there.data == data else None

    def _ask(self, ask: Callable[[], T], *, is_missing: bool = True) -> T | None:
        """Retry a request while an answer may still come; None if the object is missing."""
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
                watchdog.beat()  # a bounded wait is not a hang
                time.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        self._reached, self._gave_up = True, False
        if said:
            logger.warning("%s answers again", self.url)
        return answer

    def _seconds_left(self, error: Exception, began: float) -> float:
        """How long a request may still be retried after an error; raises `StoreError` if no longer."""
        reason, look = _reason(error), "check the credentials in the environment"
        if NO_BUCKET in str(error):
            raise StoreError(self.url, "must lie in a bucket that exists", reason, "create it, or name another")
        if not _may_pass(error):
            raise StoreError(self.url, "must be open to you", reason, f"{look}, and what they may do in this bucket")
        patience = self.patience_seconds if self._reached else min(FIRST_CONTACT_SECONDS, self.patience_seconds)
        left = began + patience - time.monotonic()
        # After one request has timed out the others fail at once: the caller is ending the sweep.
        if left <= 0 or self._gave_up:
            self._gave_up = True
            remedy = f"check the network, AWS_ENDPOINT_URL and {look.removeprefix('check ')}; then go on"
            raise StoreError(self.url, f"must answer within {patience:.0f} seconds", reason, remedy)
        return left


def _may_pass(error: Exception) -> bool:
    """Whether an error may pass: a server's fault, or no answer."""
    if isinstance(error, PermissionError | exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return False
    status = _STATUS.search(str(error))
    return status is None or int(status[1]) >= 500 or int(status[1]) in _RETRIED


def _reason(error: Exception) -> str:
    # On one line, without obstore's debug output, which holds the whole request.
    text = str(error).partition("Debug source")[0]
    code = re.search(r"<Code>(\w+)</Code>", text)
    status = _STATUS.search(text)
    if code or status:
        return " ".join([*([f"status {status[1]}"] if status else []), *([code[1]] if code else [])])
    return redact(" ".join(text.split())[:200])
