"""The weights that a LoRA adapter changes: linear layers, and experts that are held as one tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from trainables.config.sections import LoraConfig
from trainables.errors import UserError

if TYPE_CHECKING:
    import peft

WHERE = "model.lora.target_modules"

# transformers 5 holds the matrices of all experts in one tensor. Configs still use the names that they had before.
NAMES_BEFORE = {"gate_up_proj": ({"gate_proj", "up_proj"}, {"w1", "w3"}), "down_proj": ({"w2"},)}
# In a model with experts PEFT takes these names for theirs and leaves out the dense layers that bear them (peft 0.21,
# utils/transformers_weight_conversion.py). Named as a weight ("mlp.gate_proj.weight") such a layer is adapted.
TAKEN_FOR_EXPERTS = {"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}
# Mamba's kernels read these models' `out_proj.weight` past the layer, where no adapter can be; PEFT refuses it (peft
# 0.21, tuners/tuners_utils.py).
READ_PAST_THE_LAYER = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}


@dataclass(frozen=True)
class Targets:
    """What an adapter changes, by full name."""

    layers: dict[str, nn.Module]  # linear layers
    tensors: dict[str, nn.Parameter]  # (experts, in, out) or (experts, out, in)

    def weights(self) -> set[str]:
        """The names of the frozen matrices as parameters."""
        return {f"{name}.weight" for name in self.layers} | self.tensors.keys()

    def adapter_weights(self, rank: int) -> int | None:
        """Weights of an adapter: A (rank, in) and B (out, rank) a layer; None where only PEFT tells, or may refuse."""
        if (
            self.tensors
            or not self.layers
            or any(type(layer) not in (nn.Linear, Conv1D) for layer in self.layers.values())
        ):
            return None
        return rank * sum(sum(layer.get_parameter("weight").shape) for layer in self.layers.values())


def adapter_config(model: PreTrainedModel, lora: LoraConfig) -> peft.LoraConfig:
    """PEFT's settings for an adapter on `chosen_targets`.

    Raises:
        UserError: As `chosen_targets`; or dropout is asked for where PEFT can't apply it.
    """
    import peft  # takes a second, which a plan does without where it can

    targets = chosen_targets(model, lora)
    has_experts = bool(adaptable(model).tensors)
    weights = [f"{name}.weight" for name in targets.layers if has_experts and _last(name) in TAKEN_FOR_EXPERTS]
    tensors = [*targets.tensors, *weights]
    if tensors and lora.dropout > 0.0:
        # PEFT adapts these as weights: at their place there is no input that could be dropped.
        rule, remedy = "must be 0 for an adapter on experts", "set it to 0, or choose other model.lora.target_modules"
        raise UserError("model.lora.dropout", rule, f"{lora.dropout:g} with {_shorter(tensors[0])}", remedy)
    layers = [name for name in targets.layers if f"{name}.weight" not in weights]
    named_tensors = _short(tensors, (name for name, _ in model.named_parameters()), parts=2)
    # Two matrices in one tensor: each gets its rank, and the scale stays, as PEFT does for names from before.
    double = [name.replace(".", r"\.") for name in named_tensors if name.endswith(".gate_up_proj")]
    return peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # PEFT only divides by the rank
        lora_dropout=lora.dropout,
        target_modules=_short(layers, (name for name, _ in model.named_modules()), parts=1),
        target_parameters=named_tensors or None,
        rank_pattern=dict.fromkeys(double, 2 * lora.r),
        alpha_pattern=dict.fromkeys(double, 2 * lora.alpha),
        task_type="CAUSAL_LM",
    )


def chosen_targets(model: PreTrainedModel, lora: LoraConfig) -> Targets:
    """What `lora.target_modules` names.

    Raises:
        UserError: A name stands for nothing that can be adapted, or for half of a tensor.
    """
    every = adaptable(model)
    if lora.target_modules == "all-linear":
        return every
    layers, tensors = every.layers | _untied_head(model), every.tensors
    matched = {
        name: [full for full in layers if _ends(full, name)] + [full for full in tensors if _is_called(full, name)]
        for name in lora.target_modules
    }
    for tensor in tensors:
        for before in NAMES_BEFORE.get(_last(tensor), ()):
            named = before & matched.keys()
            if named and named != before:
                rule, remedy = (
                    "must name all parts of a tensor, or none",
                    f"name {' and '.join(sorted(before))}, or none",
                )
                raise UserError(WHERE, rule, f"{min(named)}, a part of {_shorter(tensor)}", remedy)
            for name in named:
                matched[name].append(tensor)
    for name, found in matched.items():
        if not found:
            choices = sorted({_last(_bare(full)) for full in (*every.layers, *tensors)})
            remedy = f"choose among {', '.join(choices)}" if choices else "set model.method=full"
            raise UserError(WHERE, "must name layers of the model that can be adapted", name, remedy)
    chosen = {full for found in matched.values() for full in found}
    return Targets(
        {full: layer for full, layer in layers.items() if full in chosen},
        {full: weight for full, weight in tensors.items() if full in chosen},
    )


def adaptable(model: PreTrainedModel) -> Targets:
    """All that can be adapted: what "all-linear" means.

    Left out are the output head, the routers of experts, towers for images and sound, and what PEFT refuses.
    """
    text, head, routers = set(model.get_decoder().modules()), model.get_output_embeddings(), set(_routers(model))
    layers: dict[str, nn.Module] = {}
    tensors: dict[str, nn.Parameter] = {}
    for name, module in model.named_modules():
        if module not in text or module is head or module in routers:
            continue
        if isinstance(module, (nn.Linear, Conv1D)):
            if not _is_refused(model, name):
                layers[name] = module
        elif _holds_experts(module):
            weights = module.named_parameters(recurse=False)
            tensors |= {f"{name}.{part}": weight for part, weight in weights if weight.ndim == 3}
    return Targets(layers, tensors)


def coverage(model: PreTrainedModel, targets: Targets) -> tuple[float, dict[str, float]]:
    """The share of the model's matrices that an adapter changes, by number of weights.

    Embeddings, the output head and convolutions are not counted.

    Returns:
        The share, 0 to 1, and the shares of what is left out by name, the largest first.
    """
    sizes = {name: weight.numel() for name, weight in _matrices(model)}
    total = sum(sizes.values())
    left: dict[str, float] = {}
    adapted = targets.weights()
    for name, size in sizes.items():
        if name not in adapted:
            left[_shorter(name)] = left.get(_shorter(name), 0.0) + size / total
    return 1.0 - sum(left.values()), dict(sorted(left.items(), key=lambda item: -item[1]))


def _matrices(model: PreTrainedModel) -> Iterator[tuple[str, nn.Parameter]]:
    other, head = (nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d), model.get_output_embeddings()
    for place, module in model.named_modules():
        if isinstance(module, other) or module is head:
            continue
        for name, weight in module.named_parameters(recurse=False):
            # Two sides at least, biases of experts and decays of state-space models (A_log) have them too.
            if sum(side > 1 for side in weight.shape) > 1 and "bias" not in name and name != "A_log":
                yield f"{place}.{name}", weight


def _routers(model: PreTrainedModel) -> Iterator[nn.Module]:
    # What a router is, only names tell: its class, or its own beside the experts ("shared_expert_gate").
    for module in model.modules():
        if any(word in type(module).__name__ for word in ("Router", "Gating")):
            yield from module.modules()
        children = dict(module.named_children())
        if any(_holds_experts(child) or name == "experts" for name, child in children.items()):
            for name, child in children.items():
                if "router" in name or name.endswith("gate"):
                    yield from child.modules()


def _holds_experts(module: nn.Module) -> bool:
    return "Experts" in type(module).__name__


def _is_refused(model: PreTrainedModel, name: str) -> bool:
    return model.config.model_type in READ_PAST_THE_LAYER and _last(name) == "out_proj"


def _untied_head(model: PreTrainedModel) -> dict[str, nn.Module]:
    # A tied head's adapter would change the embeddings too once it is merged.
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if not isinstance(head, nn.Linear) or head.weight is embeddings.weight:
        return {}
    return {name: module for name, module in model.named_modules() if module is head}


def _ends(full: str, name: str) -> bool:
    return f".{full}".endswith(f".{name}")


def _is_called(tensor: str, name: str) -> bool:
    # By its own name, or by that of the module that holds it ("experts").
    return _ends(_bare(tensor), name) or _ends(tensor.rpartition(".")[0], name)


def _bare(name: str) -> str:
    return name.removesuffix(".weight")


def _short(names: Iterable[str], all_names: Iterable[str], parts: int) -> list[str]:
    """The names' last parts where these name nothing else, else the full names."""
    wanted = set(names)
    short = {_last(name, parts) for name in wanted}
    return sorted(short if {name for name in all_names if _last(name, parts) in short} == wanted else wanted)


def _last(name: str, parts: int = 1) -> str:
    return ".".join(name.split(".")[-parts:])


def _shorter(name: str) -> str:
    """A name without the number of its layer and what stands before it, and without "weight"."""
    parts = _bare(name).split(".")
    numbers = [place for place, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[numbers[-1] + 1 if numbers else 0 :])
