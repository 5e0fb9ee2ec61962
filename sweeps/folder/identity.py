"""A sweep's id, and its parent: `parent: DIR` or `parent: NAME@ID`.

A sweep gets its id at its first start and keeps it through every resume, wherever its folder is moved.
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

ID_BYTES = 6  # of a million sweeps, two share an id with a probability below one in five hundred


def check_parent(config: SweepConfig) -> list[UserError]:
    """Checks the config's parent before the sweep starts."""
    # `NAME@ID` needs no folder on this machine.
    if config.parent is None or LINK.fullmatch(config.parent):
        return []
    folder = top_of(full_place(config.parent))
    if not (folder / SWEEP_FILE).is_file():
        rule = "must be a sweep's folder or URL, or its NAME@ID"
        remedy = "check the path; the ID is in its manifest.json"
        return [UserError("parent", rule, config.parent, remedy)]
    if full_place(config.parent) == config.place:
        return [UserError("parent", "must be another sweep", config.parent, "leave it out")]
    return []


def identify(config: SweepConfig, ledger: Ledger) -> dict[str, Any]:
    """Returns the sweep's id and its parent, for the manifest and the ledger.

    Args:
        config: The sweep; `check_parent` has passed it.
        ledger: Its ledger.

    Returns:
        `sweep_id`, and `parent`: its `name`, `id` (None for a sweep of a version that gave none) and, where the config
        names one, its `folder`; or None.
    """
    events, _ = ledger.read()
    # The first start's record counts: a resumed sweep is the same sweep, wherever its parent has been moved since.
    for event in events:
        if event["event"] == "sweep_started" and event.get("sweep_id"):
            return {"sweep_id": event["sweep_id"], "parent": event["parent"]}
    parent = None if config.parent is None else named_parent(config.parent)
    return {"sweep_id": secrets.token_hex(ID_BYTES), "parent": parent}
