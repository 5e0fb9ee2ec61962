import json
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.unit.trainables.models.helpers import save_family
from trainables.config.sections import ModelConfig
from trainables.errors import UserError
from trainables.models.meta_model import inspect_model
from trainables.models.pretrained import is_hub_id, load_tokenizer, resolve_model
from trainables.models.tiny_llama import byte_tokenizer
from trainables.storage.atomic import build_once

TINY = "random:tiny-llama"
WEIGHTS, INDEX, BIN = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
ELSEWHERE = '{"weight_map": {"a": "x-2.safetensors"}}'


def resolve(name, cache, **settings):
    return resolve_model(ModelConfig(name=str(name), **settings), cache)


@pytest.fixture
def folder(tmp_path):
    return save_family("llama", tmp_path / "model")


class TestFolders:
    def test_a_whole_folder_is_taken_as_it_is(self, folder, tmp_path, monkeypatch):
        assert resolve(folder, tmp_path / "cache") == folder
        assert not (tmp_path / "cache").exists()
        monkeypatch.chdir(tmp_path)
        assert resolve("model", tmp_path / "cache") == folder
        assert resolve("./model/", tmp_path / "cache") == folder

    @pytest.mark.parametrize(
        ("name", "spoil", "message"),
        [
            ("config.json", Path.unlink, "must be a folder with a config.json"),
            ("config.json", lambda file: file.write_text("{"), "config.json must be JSON"),
            ("config.json", lambda file: file.write_text("[]"), "config.json must be a JSON object"),
            ("config.json", lambda file: file.write_text("{}"), "must have a model_type"),
            (WEIGHTS, Path.unlink, "without any weights; fetch the model again"),
            (WEIGHTS, lambda file: file.rename(f"{file}.bin"), "safetensors .*any code.* got .*bin"),
            (WEIGHTS, lambda file: file.rename(f"{file}.gguf"), "name the .gguf file itself"),
            (WEIGHTS, lambda file: cut(file, 100), "must have weights that are whole"),
            (WEIGHTS, lambda file: cut(file, 4), "must have weights that are whole"),
            (INDEX, lambda file: file.write_text(ELSEWHERE), "have all of its weight files, got .* without x-2.safe"),
        ],
    )
    def test_a_folder_that_is_not_whole_is_refused(self, folder, tmp_path, name, spoil, message):
        spoil(folder / name)
        with pytest.raises(UserError, match=message) as refused:
            resolve(folder, tmp_path / "cache")
        assert str(refused.value).startswith("model.name: ")
        assert "\n" not in str(refused.value)

    def test_weights_in_several_files_are_one_model(self, tmp_path):
        model = AutoModelForCausalLM.from_pretrained(save_family("llama", tmp_path / "whole"))
        model.save_pretrained(tmp_path / "parts", max_shard_size="10KB")
        assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
        assert resolve(tmp_path / "parts", tmp_path) == tmp_path / "parts"
        cut(max((tmp_path / "parts").glob("*.safetensors")), 100)
        with pytest.raises(UserError, match="must have weights that are whole"):
            resolve(tmp_path / "parts", tmp_path)


class Trap:
    """What is run where it is unpickled without care."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (Path.touch, (self.place,))


def pickled(family, folder, **how):
    """A model with its weights in `pytorch_model.bin` alone, and its state."""
    model = AutoModelForCausalLM.from_pretrained(save_family(family, folder))
    (folder / WEIGHTS).unlink()
    torch.save(model.state_dict(), folder / BIN, **how)
    return model


class TestPickledWeights:
    @pytest.mark.parametrize("family", ["gpt-neox", "falcon", "gemma"])  # gemma's head shares the embeddings' memory
    @pytest.mark.parametrize("zipped", [True, False], ids=["archive", "torch before 1.6"])
    def test_they_are_converted_once(self, tmp_path, family, zipped):
        model = pickled(family, tmp_path / "model", _use_new_zipfile_serialization=zipped)
        folder = resolve(tmp_path / "model", tmp_path / "cache")
        assert folder.parent == tmp_path / "cache"
        found = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).state_dict()
        assert all(torch.equal(found[name], weight) for name, weight in model.state_dict().items())
        before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
        assert {"config.json", "generation_config.json"} <= before.keys()
        assert resolve(tmp_path / "model", tmp_path / "cache") == folder
        assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before
        torch.save({}, tmp_path / "model" / BIN)
        assert resolve(tmp_path / "model", tmp_path / "cache") != folder, "other weights, another folder"

    def test_several_files_are_one_model(self, tmp_path):
        model = pickled("gpt-neox", tmp_path)
        (tmp_path / BIN).unlink()
        parts = {"pytorch_model-1.bin": {}, "pytorch_model-2.bin": {}}
        for place, (name, weight) in enumerate(model.state_dict().items()):
            list(parts.values())[place % 2][name] = weight
        for name, part in parts.items():
            torch.save(part, tmp_path / name)
        index = {weight: name for name, part in parts.items() for weight in part}
        (tmp_path / f"{BIN}.index.json").write_text(json.dumps({"weight_map": index}))
        found = AutoModelForCausalLM.from_pretrained(resolve(tmp_path, tmp_path / "cache"))
        assert all(torch.equal(found.state_dict()[name], weight) for name, weight in model.state_dict().items())
        (tmp_path / "pytorch_model-2.bin").unlink()
        with pytest.raises(UserError, match=r"got .* without pytorch_model-2\.bin"):
            resolve(tmp_path, tmp_path / "cache")

    @pytest.mark.parametrize(
        ("write", "message"),
        [
            (lambda file, trap: file.write_bytes(pickle.dumps(trap)), "nothing but tensors"),
            (lambda file, trap: torch.save({"weight": trap}, file), "nothing but tensors"),
            (lambda file, _: torch.save([torch.ones(1)], file), "by their names, got .* with a list"),
            (lambda file, _: torch.save({"model": {"weight": torch.ones(1)}}, file), "by their names"),
            (lambda file, _: file.write_bytes(b""), "nothing but tensors"),
        ],
    )
    def test_what_is_more_than_tensors_is_refused_and_not_run(self, tmp_path, write, message):
        (tmp_path / "config.json").write_text('{"model_type": "llama"}')
        write(tmp_path / BIN, Trap(tmp_path / "ran"))
        with pytest.raises(UserError, match=message) as refused:
            resolve(tmp_path, tmp_path / "cache")
        assert "\n" not in str(refused.value)
        assert not (tmp_path / "ran").exists()
        assert not list((tmp_path / "cache").iterdir())
        with pytest.raises(UserError, match="name the folder that the file is in"):
            resolve(tmp_path / BIN, tmp_path / "cache")


def cut(file, size):
    file.write_bytes(file.read_bytes()[:size])


class TestNames:
    def test_what_reads_as_a_hub_id(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert all(map(is_hub_id, ("gpt2", "owner/name", "Qwen/Qwen2.5-0.5B")))
        paths = ("./name", "../owner", "/owner/name", "~/name", "a/b/c", "owner/name/", "name.gguf", "owner/name.gguf")
        assert not any(map(is_hub_id, (*paths, TINY)))
        (tmp_path / "owner" / "name").mkdir(parents=True)
        assert not is_hub_id("owner/name"), "a folder comes first"

    @pytest.mark.parametrize("name", ["./nowhere", "/no/where", "no/where/at-all", "nowhere.gguf", "~/nowhere-at-all"])
    def test_a_path_where_nothing_is_never_asks_the_hub(self, name, tmp_path, monkeypatch):
        monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
        with pytest.raises(UserError, match="must be a model that exists"):
            resolve(name, tmp_path)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("notes.txt", r"must be a folder or a \.gguf file"),
            ("random:huge", "got random:huge; use random:tiny-llama"),
            ("no such model!", "Hugging Face id"),
        ],
    )
    def test_what_names_no_model_is_refused(self, name, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "notes.txt").write_text("")
        with pytest.raises(UserError, match=message):
            resolve(name, tmp_path)


class TestHub:
    def test_what_is_fetched(self, folder, tmp_path, monkeypatch):
        calls = []

        def fetch(name, **given):
            calls.append((name, given))
            return str(folder)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
        assert resolve("owner/name", tmp_path, revision="v1") == folder
        resolve("owner/name", tmp_path, trust_remote_code=True)
        (name, plain), (_, trusting) = calls
        assert (name, plain["revision"]) == ("owner/name", "v1")
        assert "*.safetensors" in plain["allow_patterns"]
        assert not any(pattern.endswith((".bin", ".py", "*")) for pattern in plain["allow_patterns"])
        assert "*.py" in trusting["allow_patterns"]

    def test_pickled_weights_are_fetched_where_there_are_no_others(self, tmp_path, monkeypatch):
        model, fetched = pickled("gpt-neox", tmp_path / "hub"), []
        (tmp_path / "hub" / BIN).rename(tmp_path / BIN)

        def fetch(_, allow_patterns, **__):
            fetched.append(allow_patterns)
            if "pytorch_model*.bin" in allow_patterns:
                (tmp_path / BIN).rename(tmp_path / "hub" / BIN)
            return str(tmp_path / "hub")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
        found = AutoModelForCausalLM.from_pretrained(resolve("owner/name", tmp_path / "cache"))
        assert len(fetched) == 2
        assert torch.equal(found.gpt_neox.embed_in.weight, model.gpt_neox.embed_in.weight)

    @pytest.mark.parametrize("kind", [RepositoryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError])
    def test_what_cannot_be_fetched_is_the_users_error(self, tmp_path, monkeypatch, kind):
        def fail(*_, **__):
            error = kind.__new__(kind)
            error.args = ("404 not there\nRequest id: 7",)
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        with pytest.raises(UserError, match=r"got owner/name at revision v1 \(.*\); correct the name") as refused:
            resolve("owner/name", tmp_path, revision="v1")
        assert "Request id" not in str(refused.value)


class TestTinyLlama:
    def test_it_is_built_once_with_the_same_bits_everywhere(self, tmp_path):
        first, second = (resolve(TINY, tmp_path / name) for name in "ab")
        files = sorted(file.name for file in first.iterdir())
        assert files == sorted(file.name for file in second.iterdir())
        assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)
        stamp = (first / WEIGHTS).stat().st_mtime_ns
        assert resolve(TINY, tmp_path / "a") == first
        assert (first / WEIGHTS).stat().st_mtime_ns == stamp
        assert 80_000 < inspect_model(first, ModelConfig(name=TINY), []).parameters < 150_000, (
            "tiny, and no copy of another"
        )

    @pytest.mark.parametrize("text", ["plain", " two  spaces\n", "1,234.5 % — é 漢 🙂", "<|im_start|>x<|im_end|>"])
    def test_its_tokenizer_knows_every_text(self, text, tokenizer):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
        assert len(tokenizer("é").input_ids) == 2
        assert max(tokenizer(text).input_ids) < len(tokenizer) == 259

    def test_its_chat_template_is_chatml(self):
        messages = [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "2"}]
        tokenizer = byte_tokenizer()
        asked = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        assert asked == "<|im_start|>user\n1 + 1<|im_end|>\n<|im_start|>assistant\n"
        assert whole == asked + "2<|im_end|>\n"
        assert tokenizer.convert_tokens_to_ids("<|im_end|>") == tokenizer.eos_token_id
        assert len(tokenizer(whole).input_ids) == len(whole) - len("<|im_start|><|im_end|>") * 2 + 4


class TestTokenizers:
    def test_one_without_a_class_of_its_own_needs_no_torch(self, tiny):
        code = f"""
import sys
from trainables.config.sections import ModelConfig
from trainables.models.pretrained import load_tokenizer, resolve_model
tokenizer = load_tokenizer(resolve_model(ModelConfig(name={str(tiny)!r}), "unused"))
tokenizer.apply_chat_template([{{"role": "user", "content": "x"}}], tokenize=False)
print(tokenizer("x").input_ids, "torch" in sys.modules)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == f"{byte_tokenizer()('x').input_ids} False"

    def test_one_with_a_class_of_its_own_gets_it(self, tmp_path):
        folder = resolve(TINY, tmp_path)
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "GPT2Tokenizer"}))
        assert type(load_tokenizer(folder)) is type(AutoTokenizer.from_pretrained(folder))
        assert type(load_tokenizer(folder)).__name__ == "GPT2Tokenizer"

    @pytest.mark.parametrize("config", [None, '{"tokenizer_class": "TokenizersBackend"}'])
    def test_none_is_the_users_error(self, folder, config):
        if config:
            (folder / "tokenizer_config.json").write_text(config)
        with pytest.raises(UserError, match=r"model\.name: must come with a tokenizer"):
            load_tokenizer(folder)


class TestBuildOnce:
    def test_of_several_builders_one_wins(self, tmp_path):
        barrier = threading.Barrier(4)

        def build(folder):
            barrier.wait(10)
            (folder / "file").write_text(threading.current_thread().name)

        threads = [threading.Thread(target=build_once, args=(tmp_path / "made", build)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (tmp_path / "made" / "file").read_text() in {thread.name for thread in threads}
        assert [folder.name for folder in tmp_path.iterdir()] == ["made"]
        again = []
        assert build_once(tmp_path / "made", again.append) == tmp_path / "made"
        assert again == [], "what is there is not built again"

    def test_a_failure_leaves_nothing(self, tmp_path):
        def build(folder):
            (folder / "file").write_text("half")
            raise RuntimeError("disk full")

        with pytest.raises(RuntimeError, match="disk full"):
            build_once(tmp_path / "made", build)
        assert list(tmp_path.iterdir()) == []
