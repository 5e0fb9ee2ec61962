"""Bodies of requests; the OpenAPI shows them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ClientId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Sent(_Given):
    """A sweep as it is sent."""

    config: str = Field(description="YAML, as for `sweeps.run`, without interpolation")
    overrides: list[str] = Field([], description="`key=value` texts")
    client_id: ClientId | None = Field(None, description="your id of this request: repeated, it does nothing twice")


class Cloned(_Given):
    """What a clone changes."""

    name: Name
    overrides: list[str] = []
    client_id: ClientId | None = None
    plan_only: bool = Field(False, description="plan the clone and tell what differs; nothing is queued")


class Filters(_Given):
    """Which sweeps of the index; see `python -m analysis.list`."""

    model: str | None = None
    data: str | None = None
    state: str | None = None
    since: str | None = None


class Priority(_Given):
    """A place in the queue."""

    priority: int = Field(strict=True, ge=-100, le=100, description="higher runs first; above 0 for admins only")
