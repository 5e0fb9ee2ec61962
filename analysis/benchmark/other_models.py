"""Models of no sweep: a folder (an export's, too) or a hub id."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from analysis.benchmark.model import Loaded, Model, file_hashes, short_hash
from analysis.records.json_files import read_json
from trainables.config.data_sections import DataConfig
from trainables.config.sections import ModelConfig
from trainables.errors import UserError
from trainables.models.pretrained import is_hub_id, load_tokenizer, resolve_model

CACHE = Path(".cache") / "models"
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Options:
    """How models of no sweep are loaded and asked: they have no config that says so.

    Attributes:
        template: As `data.template`; None for each model's own chat template.
        precision: As `training.precision`.
        trust_remote_code: As `model.trust_remote_code`.
    """

    template: str | None = None
    precision: str = "auto"
    trust_remote_code: bool = False


def other_model(name: str, options: Options) -> Model:
    """The model of a folder, hub id or file.

    Raises:
        UserError: There is no such model, or it is incomplete.
    """
    place = Path(name).expanduser()
    adapter = place.absolute() if (place / ADAPTER_CONFIG).is_file() else None
    try:
        section = _base_of(adapter) if adapter else {"name": name}
        config = ModelConfig(**section, trust_remote_code=options.trust_remote_code)
        folder = resolve_model(config, CACHE)
    except UserError as error:
        raise UserError(f"--models {name}", error.rule, error.got, error.remedy) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--models {name!r}", first["msg"], repr(first["input"]), "name a folder or hub id") from None
    import torch  # after the names, which are often wrong: it takes seconds

    from trainables.models.base_model import resolve_precision

    stated: Any = options.precision
    precision = resolve_precision(stated, torch.device(_device()))
    hashes = [file_hashes(folder), file_hashes(adapter) if adapter else {}]
    is_hub = adapter is None and is_hub_id(name)
    facts = {"precision": precision, "place": name if is_hub else str(adapter or folder), "template": options.template}
    load = partial(_load, folder, config, adapter, precision, options.template)
    key = short_hash([*hashes, {"template": options.template} if options.template else {}, precision])
    identity = short_hash([facts["place"], folder.name if is_hub else "", options.template, precision])
    return Model(name if is_hub else name.rstrip("/"), identity, key, load, facts)


def _base_of(adapter: Path) -> dict[str, Any]:
    config = read_json(adapter / ADAPTER_CONFIG) or {}
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise UserError(str(adapter / ADAPTER_CONFIG), "must name the base model", base, "merge the adapter")
    return {"name": base, "revision": config.get("revision")}


def _load(folder: Path, config: ModelConfig, adapter: Path | None, precision: Any, template: str | None) -> Loaded:
    from trainables.models.base_model import load_base

    base = load_base(folder, config, precision, _device())
    model, tokenizer = base.untouched(), base.tokenizer
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter)).eval()
        if (adapter / "tokenizer_config.json").is_file():
            tokenizer = load_tokenizer(adapter, config)
    data = DataConfig(train="-", template=template)
    return Loaded(model, tokenizer, data)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
