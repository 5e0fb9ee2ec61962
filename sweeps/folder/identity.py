"""Which sweep this is, and which one it follows: `parent: DIR` or `parent: NAME@ID`.

A sweep gets an id when it first starts and keeps it through every resume. Folders are moved and copied between
machines; the id in the manifest and the ledger still tells whose child a sweep is.
"""

from __future__ import annotations

import secrets
from typing import Any

from analysis.records.lineage import LINK, full_place, named_parent
from analysis.records.locate import top_of
from sweeps.config.sweep_config import SweepConfig
from sweeps.ledger.ledger import Ledger
from trainables.errors import UserError
from trainables.storage.layout import SWEEP_FILE

ID_BYTES = 6
"""Twelve hexadecimal digits: of a million sweeps, two share an id with a probability below one in five hundred."""


def check_parent(config: SweepConfig) -> list[UserError]:
    """A parent that can't be one; for the pre-flight. `NAME@ID` needs no folder here."""
    if config.parent is None or LINK.fullmatch(config.parent):
        return []
    folder = top_of(full_place(config.parent))
    if not (folder / SWEEP_FILE).is_file():
        rule, remedy = (
            "must be a sweep's folder or URL, or its NAME@ID",
            "check the path; the ID is in its manifest.json",
        )
        return [UserError("parent", rule, config.parent, remedy)]
    if full_place(config.parent) == config.place:
        return [UserError("parent", "must be another sweep", config.parent, "leave it out")]
    return []


def identify(config: SweepConfig, ledger: Ledger) -> dict[str, Any]:
    """The sweep's id and its parent, for the manifest and the ledger.

    What the ledger's first start recorded stands: a resumed sweep is the same one, wherever its parent has gone since.

    Args:
        config: The sweep; `check_parent` has passed it.
        ledger: Its ledger.

    Returns:
        `sweep_id`, and `parent`: its `name`, `id` (None for a sweep of a version that gave none) and, where the config
        names one, its `folder`; or None.
    """
    events, _ = ledger.read()
    for event in events:
        if event["event"] == "sweep_started" and event.get("sweep_id"):
            return {"sweep_id": event["sweep_id"], "parent": event["parent"]}
    parent = None if config.parent is None else named_parent(config.parent)
    return {"sweep_id": secrets.token_hex(ID_BYTES), "parent": parent}
