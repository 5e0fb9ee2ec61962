"""Locate a base model (hub, folder, GGUF file or built on the spot) and load its tokenizer."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import Any

from trainables.config.sections import ModelConfig
from trainables.errors import UserError
from trainables.models.safetensors_files import (
    INDEX,
    PICKLED,
    TO_SAFETENSORS,
    check_weights,
    pickled_files,
    read_json,
)
from trainables.storage.atomic import build_once

# Imports of torch stay inside functions: the driver resolves models before any lane starts, and torch would add
# seconds to every config error.
CAUSAL = "must be a causal LM that transformers can load"
NAME_A_DECODER = "name a decoder language model for text; one with code of its own needs model.trust_remote_code=true"
# Classes whose weights lack a head for the next token, or that see the tokens behind it.
OTHER_TASKS = ("Classification", "ForMaskedLM", "ForMultipleChoice", "ForPreTraining", "ForQuestionAnswering")
GENERIC_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend")
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
PICKLED_FILES = ["pytorch_model*.bin"]


def resolve_model(model: ModelConfig, cache_dir: str | Path) -> Path:
    """Find, fetch, convert or build the base model.

    Args:
        model: `name` is a Hugging Face id, a folder, a `.gguf` file (converted once to safetensors, by the hash of its
            content) or `random:tiny-llama` (built once). Weights in `pytorch_model.bin` alone are converted once too.
        cache_dir: Folder of converted and built models. Hub models go to Hugging Face's own cache.

    Returns:
        Absolute path of a folder with configuration, tokenizer and safetensors weights.

    Raises:
        UserError: There is no such model, it is incomplete, or its weights are pickled with more than tensors.
    """
    name, cache = model.name, Path(cache_dir).absolute()
    local = Path(name).expanduser()
    if name.startswith("random:"):
        folder = _built(name, cache)
    elif local.is_file():
        folder = _converted(local, cache)
    elif local.is_dir():
        folder = local.absolute()
    elif is_hub_id(name):
        folder = _fetched(model, HUB_FILES)
        if not _has_safetensors(folder):
            folder = _fetched(model, [*HUB_FILES, *PICKLED_FILES])
    else:
        raise UserError("model.name", "must be a model that exists", f"{name}, where nothing is", "correct the path")
    if not _has_safetensors(folder) and pickled_files(folder):
        folder = _unpickled(folder, cache)
    check_folder(folder)
    return folder


def resolve_again(model: ModelConfig, before: str | Path, cache_dir: str | Path) -> Path:
    """Find the model of an earlier start: where it was, else wherever `resolve_model` finds the same.

    Args:
        model: As for `resolve_model`.
        before: The folder that the earlier start found. Of a hub model it is named after the commit, which counts.
        cache_dir: As for `resolve_model`.

    Raises:
        UserError: As `resolve_model`. Whether the files are the same is for the caller to check.
    """
    before = Path(before)
    if (before / "config.json").is_file():
        return before.absolute()
    if is_hub_id(model.name) and before.parent.name == "snapshots":
        model = model.model_copy(update={"revision": before.name})
    return resolve_model(model, cache_dir)


def is_hub_id(name: str) -> bool:
    """Whether a name reads as a Hugging Face id (`name` or `owner/name`) and is no existing file or folder."""
    reads_as_path = name.startswith((".", "/", "~", "random:")) or name.endswith((".gguf", "/")) or name.count("/") > 1
    return not reads_as_path and not os.path.exists(name)


def check_folder(folder: Path) -> None:
    """Check that a folder holds a configuration and complete safetensors weights, without reading the weights.

    Raises:
        UserError: Something is missing or damaged, or the weights are pickled.
    """
    config = folder / "config.json"
    if not config.is_file() and not any(folder.glob("*.gguf")):
        remedy = "name the folder of a whole model (an adapter is none)"
        raise UserError("model.name", "must be a folder with a config.json", str(folder), remedy)
    check_weights(folder)
    if not read_json(config).get("model_type"):
        raise UserError("model.name", "must have a model_type in its config.json", str(folder), "name a causal LM")


def load_tokenizer(path: str | Path, model: ModelConfig | None = None) -> Any:
    """Load the tokenizer from a model's folder.

    Args:
        path: A folder from `resolve_model`.
        model: Tells whether the model's own code may run; None for no.

    Returns:
        A `transformers.PreTrainedTokenizerBase`.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    config = Path(path) / "tokenizer_config.json"
    # A tokenizer without a class of its own loads without torch; AutoTokenizer imports it.
    generic = config.is_file() and read_json(config).get("tokenizer_class") in GENERIC_TOKENIZERS
    try:
        if generic:
            from transformers import PreTrainedTokenizerFast

            return PreTrainedTokenizerFast.from_pretrained(path)
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(path, trust_remote_code=bool(model and model.trust_remote_code))
    except (OSError, ValueError, KeyError, ImportError) as error:
        remedy = "put its files into the model's folder"
        raise UserError("model.name", "must come with a tokenizer", f"{path} ({_brief(error)})", remedy) from error


def causal_config(path: str | Path, model: ModelConfig) -> Any:
    """Load a model's configuration and check that it is one of a causal LM.

    Args:
        path: A folder from `resolve_model`.
        model: Tells whether the model's own code may run.

    Returns:
        A `transformers.PreTrainedConfig`.

    Raises:
        UserError: transformers knows no causal LM of this kind, the weights were trained for another task, or they
            come quantized.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=model.trust_remote_code)
    except (ValueError, KeyError, OSError, ImportError) as error:
        raise UserError("model.name", CAUSAL, f"{path} ({_brief(error)})", NAME_A_DECODER) from error
    except (StrictDataclassError, TypeError, AttributeError) as error:
        raise broken_config(path, error) from error
    is_own_code = model.trust_remote_code and "AutoModelForCausalLM" in getattr(config, "auto_map", {})
    made_for = (config.architectures or [""])[0]
    if made_for.endswith(OTHER_TASKS) or not (is_own_code or type(config) in MODEL_FOR_CAUSAL_LM_MAPPING):
        kind = f"{config.model_type} ({made_for})" if made_for else config.model_type
        raise UserError("model.name", CAUSAL, f"{path} of type {kind}", NAME_A_DECODER)
    if quantization := getattr(config, "quantization_config", None):
        kind = (
            quantization.get("quant_method", "by an unnamed method") if isinstance(quantization, dict) else quantization
        )
        rule, remedy = "must have weights that are not quantized", "name the model that it was made from"
        raise UserError("model.name", rule, f"{path} ({kind})", f"{remedy}, and set model.quantize=nf4 to save memory")
    return config


def broken_config(path: str | Path, error: Exception) -> UserError:
    """The error where no model can be built by a configuration."""
    # The cause says the rule, the error around it only which check it broke.
    cause = error.__cause__ or error
    said = f"{type(cause).__name__}: {_brief(cause)}"
    remedy = "correct it, or fetch the model again"
    return UserError("model.name", "must have a config.json that a model can be built by", f"{path} ({said})", remedy)


def cannot_recompute(kind: str) -> UserError:
    """The error where activations are to be recomputed by a class of models that can't."""
    rule = "must be false for a model that can't recompute"
    return UserError("training.gradient_checkpointing", rule, kind, "set it to false")


def bitsandbytes_is_missing(where: str) -> UserError | None:
    """The error of a setting that needs bitsandbytes where it is not installed; None where it is."""
    if importlib.util.find_spec("bitsandbytes"):
        return None
    return UserError(where, "needs bitsandbytes", "none installed", "run: pip install 'llm-sweeps[nf4]'")


def nothing_to_quantize(kind: str) -> UserError:
    """The error where a model has no weights that could be put into 4 bits."""
    rule = "needs linear layers outside of experts and the output head"
    return UserError("model.quantize", rule, f"{kind} without any", "leave it out")


def _built(name: str, cache: Path) -> Path:
    from trainables.models.tiny_llama import NAME, RECIPE, build_tiny_llama

    if name != NAME:
        raise UserError("model.name", "must be a random model that is known", name, f"use {NAME}")
    return build_once(cache / RECIPE, build_tiny_llama)


def _converted(file: Path, cache: Path) -> Path:
    if file.suffix != ".gguf":
        is_part = file.name.startswith("pytorch_model") or file.suffix not in PICKLED
        remedy = "name the folder that the file is in" if is_part else TO_SAFETENSORS
        raise UserError("model.name", "must be a folder or a .gguf file", str(file), remedy)
    from trainables.models.conversion.gguf import convert_gguf, folder_name

    return build_once(cache / folder_name(file), lambda folder: convert_gguf(file, folder))


def _has_safetensors(folder: Path) -> bool:
    return (folder / INDEX).is_file() or any(folder.glob("*.safetensors"))


def _unpickled(folder: Path, cache: Path) -> Path:
    from trainables.models.conversion.pickled import convert_pickled

    # Files of many gigabytes are distinguished without reading them; a hub's revision has a folder of its own.
    files = sorted(file for file in folder.iterdir() if file.is_file())
    states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    target = cache / f"{folder.name}-{hashlib.sha256(repr(states).encode()).hexdigest()[:16]}"
    return build_once(target, lambda empty: convert_pickled(folder, empty))


def _fetched(model: ModelConfig, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [*files, "*.py"] if model.trust_remote_code else files
    try:
        return Path(snapshot_download(model.name, revision=model.revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        wanted = model.name if model.revision is None else f"{model.name} at revision {model.revision}"
        rule = "must be a folder, a .gguf file or a Hugging Face id that can be fetched"
        remedy = "correct the name, check the network, or log in if the model is gated (`hf auth login`)"
        raise UserError("model.name", rule, f"{wanted} ({_brief(error)})", remedy) from error


def _brief(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
