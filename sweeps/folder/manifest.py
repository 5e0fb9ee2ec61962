"""The manifest: everything needed for repeating a sweep or trusting it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeps.config.differences import differences
from sweeps.config.sweep_config import SweepConfig
from sweeps.folder.origin import Origin, completed, git_commit, machine, manifest_of, versions
from sweeps.ledger.history import ended_trials
from sweeps.ledger.ledger import Ledger
from trainables.storage.atomic import write_whole
from trainables.storage.checksums import sha256_of
from trainables.storage.layout import CACHE_FOLDER, CHAT_TEMPLATE_FILE, MANIFEST_FILE


class Manifest:
    """`manifest.json`, written when a sweep starts and again when it ends.

    Attributes:
        state: How the sweep ended: `complete`, `budget_spent`, `not_needed`, `interrupted` or `failed`; `running` until
            then.
    """

    def __init__(self, folder: Path, fields: dict[str, Any]) -> None:
        self.folder, self.fields, self.state = folder, fields, "running"

    @classmethod
    @contextmanager
    def opened(
        cls,
        config: SweepConfig,
        model_path: str,
        hardware: dict[str, Any],
        identity: dict[str, Any],
        origin: Origin,
        *,
        resumed: bool,
    ) -> Iterator[Manifest]:
        """Writes the manifest, and again with the sweep's end when the block ends.

        Of a resumed sweep it keeps what the first start wrote: `later_starts` has, by its time, what each later one
        found different.
        """
        fields = {**identity, **describe(config, model_path, hardware, origin)}
        first = manifest_of(config.folder) if resumed else {}
        if first.get("started"):
            new = {"versions": versions(), "git_commit": _commit(), "hardware": fields["hardware"]}
            differs = {key: now for key, _, now in differences({key: first.get(key) for key in new}, new)}
            later = {**first.get("later_starts", {}), fields["started"]: differs or "as the first"}
            fields |= {"started": first["started"], "hardware": first.get("hardware"), "later_starts": later}
        manifest = cls(config.folder, fields)
        manifest.write(ended=None)
        try:
            yield manifest
        except KeyboardInterrupt:  # the second Ctrl-C
            manifest.state = "interrupted"
            raise
        except BaseException:
            manifest.state = "failed"
            raise
        finally:
            manifest.write(ended=_now())

    def write(self, ended: str | None) -> None:
        text = json.dumps({"state": self.state, "ended": ended, **self.fields}, indent=2)
        write_whole(self.folder / MANIFEST_FILE, text + "\n")


def describe(
    config: SweepConfig, model_path: str, hardware: dict[str, Any], origin: Origin | None = None
) -> dict[str, Any]:
    """Collects start, versions, commit, hashes, seed and hardware.

    Args:
        config: The sweep.
        model_path: Folder of the base model.
        hardware: Of the cluster; this machine's is added.
        origin: What the sweep began with; parts that are missing are taken as they are now.
    """
    origin = completed(origin or {}, config, model_path)
    own_template = config.folder / CACHE_FOLDER / CHAT_TEMPLATE_FILE
    return {
        "started": _now(),
        "versions": origin["versions"],
        "git_commit": origin["git_commit"],
        "model": config.model.name,
        "model_path": model_path,
        "model_sha256": origin["model_sha256"],
        "model_files_sha256": origin["model_files_sha256"],
        "trust_remote_code": config.model.trust_remote_code,
        "data_sha256": origin["data_sha256"],
        "tokenized_sha256": origin["tokenized_sha256"],
        "chat_template_sha256": sha256_of(own_template) if own_template.is_file() else None,
        "template_args": config.data.template_args,
        "seed": config.seed,
        "beyond_recommended": config.space.beyond_recommended,
        "hardware": {**machine(), **hardware},
    }


def precisions(ledger: Ledger) -> list[str]:
    """Lists the precisions that ended trials were computed in: one, unless lanes differ."""
    return sorted({p for trial in ended_trials(ledger.read()[0]) if (p := trial.get("precision"))})


def _commit() -> str | None:
    return git_commit(Path(__file__).parent)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
