"""README.md of an exported model: purpose, training, scores and how to load it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.export.checkpoint_choice import BaseModel, Chosen
from analysis.output.board_figures import best, metric_label, own_scorers
from analysis.output.formats import measure_of, number, trial_name
from analysis.output.leaderboard import Leaderboard, LeaderboardRow
from analysis.output.terminal_plots import plot
from analysis.records.sweep import Sweep
from analysis.stats.curve_smoothing import thin
from trainables.storage.layout import MANIFEST_FILE, PLAN_FILE

if TYPE_CHECKING:
    from analysis.export.verification import Parity

ADAPTER = """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("THIS_FOLDER")"""
QUANTIZED = """import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, BitsAndBytesConfig

# The adapter was trained on the base model in 4 bits.
nf4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.bfloat16,
)
model = AutoPeftModelForCausalLM.from_pretrained("THIS_FOLDER", quantization_config=nf4)"""
MODEL = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("THIS_FOLDER")"""
CHAT = """
prompt = [{"role": "user", "content": "..."}]
inputs = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True)"""
WRAPPED = """
text = {template!r}.replace("{{prompt}}", "...")
inputs = tokenizer(text, return_tensors="pt")"""
GENERATE = """
answer = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))"""

SERVED_WITH = ("template_text", "thought_opened", "end_token_added")  # findings of the plan
KINDS = {"adapter": "A LoRA adapter for", "merged": "A LoRA adapter merged into", "full": "All weights of"}


def model_card(
    sweep: Sweep,
    board: Leaderboard,
    chosen: Chosen,
    kind: str,
    base: BaseModel,
    parity: Parity | None = None,
    ends: Sequence[int] = (),
) -> str:
    """Writes the card in Markdown, with the hub's metadata on top.

    Args:
        sweep: The sweep, for its objective and config.
        board: Its leaderboard.
        chosen: The exported checkpoint.
        kind: `adapter`, `merged` or `full`.
        base: The base model.
        parity: Deviation of the export; None where it was not checked.
        ends: Tokens that end an answer, where the base model's settings name fewer.
    """
    model, row = sweep.config.get("model") or {}, chosen.row
    parts = [
        _metadata(kind, base.name),
        f"# {sweep.name}",
        sweep.statement or "No objective was written down.",
        f"{KINDS[kind]} `{model.get('name', base.name)}`, fine-tuned ({model.get('method', 'unknown method')}) for one "
        f"epoch: trial `{chosen.trial_id}`, seed {row['seed']}, step {chosen.step} of {row['steps_planned']}, "
        f"{_standing(board, chosen)}.",
        "## How to load",
        f"```python\n{_snippet(sweep, kind, ends)}\n```",
        *_template_notes(sweep),
        "## Held-out scores",
        _scores(board, chosen),
        "## Hyper-parameters",
        "\n".join(f"- `{name}`: {number(value)}" for name, value in sorted(row["params"].items())) or "None recorded.",
        f"`reproduce.yaml` trains this {'setting without held-out items' if chosen.retrained else 'trial again'}: "
        "`python -m sweeps.run reproduce.yaml`.",
    ]
    if plot := schedule_plot(sweep, chosen.trial_id):
        parts += ["LR by step:", f"```text\n{plot}\n```"]
    parts += ["## Verification", _verification(kind, parity), "## Data", data_hashes(sweep), "## Licence"]
    parts.append(license(base))
    if findings := _findings(sweep, chosen):
        parts += ["## Findings in training", findings]
    return "\n\n".join(parts) + "\n"


def _verification(kind: str, parity: Parity | None) -> str:
    if parity is None:
        return "This export was not loaded and compared (`--no-verify`)."
    merged = "Merged in float32 and saved. " if kind == "merged" else ""
    return f"{merged}Reloaded in a fresh process with `transformers` and compared with the trained model: {parity}."


def _metadata(kind: str, base: str) -> str:
    # The hub refuses metadata whose base_model is a path.
    on_hub = base.count("/") == 1 and not base.startswith((".", "/"))
    library = f"library_name: {'peft' if kind == 'adapter' else 'transformers'}"
    lines = [*([f"base_model: {base}"] if on_hub else []), library, "pipeline_tag: text-generation"]
    return "\n".join(["---", *lines, "---"])


def _standing(board: Leaderboard, chosen: Chosen) -> str:
    # No claim that the evidence doesn't carry: a tie is called a tie, a checkpoint exported by name has no rank.
    if chosen.retrained:
        return (
            f"the setting of `{board['winner_setting']}`, which the sweep named, trained on the training samples and "
            "the held-out items that chose it; sealed areas below alone judge it"
        )
    setting = _setting_row(board, chosen)
    rank, trials = setting["rank"], len(board["rows"])
    if rank is None or chosen.checkpoint.get("objective") is None:
        return f"not ranked ({chosen.row['state']}), exported by name"
    if chosen.step != chosen.row["step"]:
        return f"exported by name (the trial's best step is {chosen.row['step']})"
    tied = [pair["trial_id"] for pair in board["tied"]]
    separation = board["separation"]
    if rank == 1 and separation is not None and separation["seed_sd_source"] == "unknown":
        return f"{best(board)} of {trials} trials; whether another setting is as good was not measured"
    if rank == 1 and tied:
        names = ", ".join(trial_name(board, name) for name in tied)
        return f"{best(board)} of {trials} trials, not significantly better than {names}"
    return f"rank {rank} of {trials} trials{' (tied with the first)' if setting['tied'] else ''}"


def _setting_row(board: Leaderboard, chosen: Chosen) -> LeaderboardRow:
    # A replicate has no rank of its own.
    name = chosen.row["replicate_of"] or chosen.trial_id
    return next((row for row in board["rows"] if row["trial_id"] == name), chosen.row)


def _snippet(sweep: Sweep, kind: str, ends: Sequence[int]) -> str:
    data = sweep.config.get("data") or {}
    template, args = data.get("template"), data.get("template_args")
    chat = CHAT.replace(", return_tensors", f", **{args!r}, return_tensors") if args else CHAT
    prompt = WRAPPED.format(template=template.partition("{response}")[0].rstrip()) if template else chat
    # An adapter is loaded with the settings of its base model.
    generate = GENERATE.replace("False)", f"False, eos_token_id={list(ends)})", 1) if ends else GENERATE
    quantized = (sweep.config.get("model") or {}).get("quantize")
    loading = MODEL if kind != "adapter" else QUANTIZED if quantized else ADAPTER
    return f'{loading}\ntokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")\n{prompt}{generate}'


def _template_notes(sweep: Sweep) -> list[str]:
    """What the plan said of the chat template, which a server has to know as well."""
    plan = sweep.folder / PLAN_FILE
    found = json.loads(plan.read_text(encoding="utf-8")).get("findings", []) if plan.is_file() else []
    notes = [finding["message"].rpartition(";")[0] for finding in found if finding["rule"] in SERVED_WITH]
    return ["\n".join(f"- In the sweep, {note}." for note in notes)] if notes else []


def _scores(board: Leaderboard, chosen: Chosen) -> str:
    areas = chosen.checkpoint.get("areas") or {}
    if not areas:
        return "This checkpoint was not scored."
    intervals = board["intervals"]
    scope = f"{100 * intervals['level']:.0f} % interval ({intervals['scope']})"
    own = sorted({name for area in areas.values() for name in own_scorers(area)})
    heads = ["area", "items", "loss", "base loss", "delta", "exact match", "base exact match", "token F1"]
    heads += [head for name in own for head in (metric_label(name), f"base {metric_label(name)}")]
    lines = [
        "Held-out loss: mean NLL per response token of an item, in nats, mean over items; lower is better. Delta: how "
        f"much worse than the base model (below 0: better), {measure_of(board).unit}, with a {scope}.",
        "",
        f"| {' | '.join(heads)} |",
        f"| {' | '.join('---' for _ in heads)} |",
    ]
    for name, area in sorted(areas.items()):
        base = board["baseline"]["areas"].get(name, {})
        cells = [
            *(name, str(area["items"]), _figure(area["nll"]), _figure(base.get("nll"))),
            _figure(area["delta"], area["delta_interval"]),
            *(_figure(area["exact_match"]), _figure(base.get("exact_match")), _figure(area["token_f1"])),
            *(_figure(of.get(name)) for name in own for of in (area, base)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if chosen.retrained:
        return "\n".join([*lines, "", "These areas were sealed: they took no part in the search or the training."])
    gain = _figure(chosen.checkpoint["gain"], chosen.checkpoint["gain_interval"])
    note = f" ({intervals['winner']})" if _setting_row(board, chosen)["rank"] == 1 else ""
    better = f"Better than the base model by {gain} {measure_of(board).unit}, weighted over areas{note}."
    return "\n".join([*lines, "", better])


def _figure(value: float | None, interval: list[float] | None = None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def _findings(sweep: Sweep, chosen: Chosen) -> str:
    found = next((trial.findings for trial in sweep.trials if trial.trial_id == chosen.trial_id), [])
    return "\n".join(f"- {f.get('rule')} (step {f.get('step')}): {f.get('advice')}" for f in found)


PLOT_CELLS, PLOT_LINES = 60, 6


LICENSE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "USE_POLICY.md")


def schedule_plot(sweep: Sweep, trial_id: str) -> str:
    """Draws the LR by step with characters; empty where the trial has no curve."""
    curve = thin(sweep.curve(trial_id)[0], points=2 * PLOT_CELLS)
    if not curve.steps:
        return ""
    high = max(curve.lr)
    labels = [f"{high:.1e}", *[""] * (PLOT_LINES - 2), "0"]
    lines = plot(curve.steps, list(curve.lr), PLOT_CELLS, PLOT_LINES, (0.0, high))
    drawn = [f"{label:>8} │{line}".rstrip() for label, line in zip(labels, lines, strict=True)]
    return "\n".join([*drawn, f"{'step':>8}  {curve.steps[0]} … {curve.steps[-1]}"])


def data_hashes(sweep: Sweep) -> str:
    """SHA-256 of the data files, from the manifest, as a Markdown list."""
    written = json.loads((sweep.folder / MANIFEST_FILE).read_text(encoding="utf-8")).get("data_sha256") or {}
    if not written:
        return "The sweep's manifest has no hashes of the data."
    lines = [f"- {'training set' if name == 'train' else name}: `{digest}`" for name, digest in written.items()]
    return "\n".join(["SHA-256 of the files that it was trained and scored on:", "", *lines])


def license(base: BaseModel) -> str:
    """The license as the base model's folder states it; nothing is assumed."""
    card = base.folder / "README.md"
    if card.is_file():
        head = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8"), flags=re.S)
        named = re.search(r"^license:\s*(\S+)", head.group(1), flags=re.M) if head else None
        if named:
            return f"Of the base model, by its model card: `{named.group(1)}`. It binds this model too."
    found = [name for name in LICENSE_FILES if (base.folder / name).is_file()]
    if found:
        return f"Of the base model: see its {', '.join(found)}. It binds this model too."
    return "The base model's folder names none: look it up where the model comes from. It binds this model too."
