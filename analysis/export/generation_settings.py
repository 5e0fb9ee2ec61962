"""Makes an export answer as the sweep's models were taught to: its chat template, and where its answers end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from trainables.storage.layout import CACHE_FOLDER, CHAT_TEMPLATE_FILE, TRAIN_FILE

SETTINGS_FILE = "generation_config.json"


def write_generation_settings(sweep: Path, base: Path, out: Path) -> list[int]:
    """Adds the end tokens of the training set's labels to an export's settings, and the sweep's own chat template.

    Args:
        sweep: The sweep's folder.
        base: Folder of the base model.
        out: The export, with its tokenizer and model files written.

    Returns:
        All tokens that end an answer, where the labels have one that neither tokenizer nor settings named; else none.
    """
    if (own := sweep / CACHE_FOLDER / CHAT_TEMPLATE_FILE).is_file():
        shutil.copyfile(own, out / "chat_template.jinja")
    data = sweep / CACHE_FOLDER / TRAIN_FILE
    if not data.is_file():
        return []
    from trainables.data.dataset import TokenizedSet
    from trainables.models.pretrained import load_tokenizer

    tokenizer, place = load_tokenizer(base), out / SETTINGS_FILE
    settings = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
    named = settings.get("eos_token_id", [])
    known = {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None}
    taught = TokenizedSet(data).label_ends & set(tokenizer.added_tokens_decoder)
    if not taught - known:
        return []
    settings["eos_token_id"] = sorted(known | taught)
    place.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return list(settings["eos_token_id"])
