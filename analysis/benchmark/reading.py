"""Reads a benchmark's results from the storage, and lays them out for tables and JSON."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.benchmark.results import BITS, Key, Results, Scored, usual_metric, value_of
from analysis.benchmark.storage import Files
from analysis.cli import nearest
from analysis.stats import bootstrap
from trainables.data.samples import Sample
from trainables.errors import UserError
from trainables.evaluation.objective import NLL

ENTRY = ("label", "key", "scored", "place", "precision")  # what is read of a model's file
# Of each item; `trainables.evaluation.fixed_items.ItemResult`, whose module needs torch.
ITEM = {"id", "group", "nll", "tokens", "bytes", "answer", "exact_match", "token_f1", "scores"}


def read_models(files: Files, full_name: str, areas: Mapping[str, Sequence[Sample]]) -> list[Scored]:
    """The models that are scored on all areas, in the order of scoring.

    Raises:
        UserError: None is, or a file is damaged.
    """
    entries = {key: files.read(key) for key in files.names(f"{full_name}/models")}
    for key, entry in entries.items():
        if entry and not all(isinstance(entry.get(name), str) for name in ENTRY):
            raise UserError(key, f"must hold texts: {', '.join(ENTRY)}", "others", "remove it, and score it again")
    found = sorted((entry for entry in entries.values() if entry), key=lambda entry: (entry["scored"], entry["label"]))
    if not found:
        raise UserError(full_name, "must have scores to show", "none", "score some models: --models MODEL…")
    labels = Counter(entry["label"] for entry in found)
    seen: Counter[str] = Counter()
    models = []
    for entry in found:
        label = entry["label"]
        if labels[label] > 1:
            label = f"{label} ({entry['place']})"
        seen[label] += 1
        label = label if seen[label] == 1 else f"{label} ({entry['scored']})"
        models.append(_scored(files, full_name, areas, label, entry))
    return models


def _scored(
    files: Files, full_name: str, areas: Mapping[str, Sequence[Sample]], label: str, entry: Mapping[str, Any]
) -> Scored:
    items: dict[Key, Any] = {}
    tokens = {}
    for area, samples in areas.items():
        key = f"{full_name}/scores/{entry['key']}/{area}.json"
        record = files.read(key)
        if record is None:
            raise UserError(key, "must hold the scores of its model", "no such file", f"score {label} again")
        try:
            own = {item["id"]: item for item in record["items"] if item.keys() >= ITEM}
            tokens[area] = record["tokens_sha256"]
        except (KeyError, TypeError, AttributeError):
            own = {}
        if own.keys() != {sample.id for sample in samples}:
            rule = f"must hold a score of each of the {len(samples)} items"
            raise UserError(key, rule, f"{len(own)}, or of other items", f"remove it, and score {label} again")
        items |= {(area, name): item for name, item in own.items()}
    return Scored(label, entry, items, tokens)


def results_of(models: Sequence[Scored], weights: Mapping[str, float], metric: str | None) -> Results:
    """The models, compared by a metric; None for the usual one.

    Raises:
        UserError: No model has it.
    """
    chosen = metric or usual_metric(models)
    scorers = {name for model in models for item in model.items.values() for name in item["scores"]}
    known = [NLL, BITS, "exact_match", "token_f1", *sorted(scorers)]
    if chosen not in known:
        raise UserError("--metric", "must be a metric of this benchmark", chosen, nearest(chosen, known))
    found = Results(models, weights, chosen)
    if not found.ranked:
        label, defect = next(iter(found.defects.items()))
        raise UserError("--metric", "must be known of every item", f"{label}: {defect}", f"one of {', '.join(known)}")
    return found


def table_rows(results: Results) -> list[dict[str, Any]]:
    """A record for each model, best first, those without a rank last; JSON values.

    `tied` says of the first whether any other is tied with it, of the others whether they are.
    """
    means, by_area, firsts = results.means(), results.area_means(), results.firsts()
    rows: list[dict[str, Any]] = []
    for place, model in enumerate(results.ranked):
        behind = results.compare(place, 0)
        rows.append(
            {
                "rank": place + 1,
                "model": model.label,
                "score": means[place],
                "behind": behind.value if place else 0.0,
                "behind_interval": behind.interval if place else None,
                "tied": place > 0 and behind.tied,
                "areas": by_area[place],
                "exact_match": _mean(results, model, "exact_match"),
                "first_on": firsts[place],
                "defect": None,
                **model.entry,
            }
        )
    rows[0]["tied"] = any(row["tied"] for row in rows)
    for label, defect in results.defects.items():
        rows.append({"rank": None, "model": label, "score": None, "tied": False, "defect": defect})
    return rows


def _mean(results: Results, model: Scored, metric: str) -> float | None:
    values = [value_of(model.items[key], metric) for key in results.keys]
    if None in values:
        return None
    return float(bootstrap.objective(results.design, np.array(values, float)[:, None])[0])


def history(results: Results) -> list[dict[str, Any]]:
    """The best so far, sweep by sweep, in the order in which they were started; sweeps without a ranked model are out.

    Returns:
        For each sweep its best checkpoint (`model`, `score`), the difference to the best of all earlier sweeps
        (`change`, below 0 is better by the values that are minimized; None for the first), its interval, the `verdict`
        ("first", "better", "worse" or "tied") and `best_so_far`.
    """
    means = results.means()
    sweeps: dict[str, list[int]] = {}
    for place, model in enumerate(results.ranked):
        if model.entry.get("sweep") and model.entry.get("trial_id") != "base":
            sweeps.setdefault(str(model.entry.get("sweep_id") or model.entry["place"]), []).append(place)
    started = sorted(sweeps.values(), key=lambda places: str(results.ranked[places[0]].entry.get("started") or ""))
    lines: list[dict[str, Any]] = []
    best: int | None = None
    for places in started:
        own = min(places)
        entry = results.ranked[own].entry
        moved = None if best is None else results.compare(own, best)
        verdict = "first" if moved is None else "tied" if moved.tied else "better" if moved.value < 0 else "worse"
        best = own if best is None else min(best, own)
        lines.append(
            {
                "sweep": entry["sweep"],
                "started": entry.get("started"),
                "model": results.ranked[own].label,
                "score": means[own],
                "change": moved and moved.value,
                "change_interval": moved and moved.interval,
                "verdict": verdict,
                "best_so_far": results.ranked[best].label,
            }
        )
    return lines


def answers(
    models: Sequence[Scored], samples: Mapping[str, Sequence[Sample]], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """The answers of some models to the same items: first those on which the models disagree.

    Args:
        models: All models.
        samples: The items, by area.
        labels: The models to lay side by side; none for all.

    Raises:
        UserError: A label is no model's.
    """
    known = {model.label: model for model in models}
    for label in labels:
        if label not in known:
            raise UserError("--answers", "must be a model of the table", label, nearest(label, known))
    chosen = [known[label] for label in labels] or list(models)
    found = [
        {
            "area": area,
            "id": sample.id,
            "prompt": sample.prompt,
            "reference": sample.response,
            "answers": [{"model": model.label, **_answer(model.items[area, sample.id])} for model in chosen],
        }
        for area, items in samples.items()
        for sample in items
    ]
    return sorted(found, key=lambda item: len({one["exact_match"] for one in item["answers"]}) == 1)


def _answer(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item[name] for name in ("answer", "exact_match", "token_f1", "nll")}


def pinned(results: Results, key: Key) -> list[dict[str, Any]]:
    """What each model makes of one item, beside what it makes of all: sweep by sweep, step by step.

    Raises:
        UserError: There is no such item.
    """
    if key not in results.keys:
        names = [f"{area}/{name}" for area, name in results.keys]
        close = difflib.get_close_matches("/".join(key), names, n=3)
        remedy = f"did you mean {', '.join(close)}?" if close else f"write it as {names[0]}; --answers shows the ids"
        raise UserError("--pin", "must be AREA/ID of an item", "/".join(key), remedy)
    firsts, places = results.firsts(), results.places(key)
    lines = []
    for place, model in sorted(enumerate(results.ranked), key=lambda found: _order(found[1])):
        line = {"model": model.label, "rank": place + 1, "first_on": firsts[place], "items": len(results.keys)}
        line |= {"place": places[place], **_answer(model.items[key])}
        lines.append({**line, "words": pin_words(line)})
    return lines


def _order(model: Scored) -> tuple[str, str, str, int]:
    entry = model.entry
    return (
        str(entry.get("started") or ""),
        str(entry.get("sweep") or ""),
        str(entry.get("trial_id") or ""),
        int(entry.get("step") or 0),
    )


def pin_words(line: Mapping[str, Any]) -> str:
    """A pinned item in words: `fails here, yet is first on 412 of 500`."""
    whole = f"first on {line['first_on']} of {line['items']}"
    most = 2 * line["first_on"] >= line["items"]
    if line["exact_match"] is None:
        return f"place {line['place']} here, {whole}"
    if line["exact_match"] == 1:
        return f"right here, and is {whole}" if most else f"right here, but is {whole}"
    return f"fails here, yet is {whole}" if most else f"fails here, and is {whole}"
