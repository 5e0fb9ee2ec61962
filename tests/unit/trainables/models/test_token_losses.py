import dataclasses
import logging
import sys

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.unit.trainables.models.helpers import (
    FAMILIES,
    LENGTHS,
    LONGEST_FLAT,
    VOCABULARY,
    batch_of,
    plain,
    plain_losses,
    save_family,
)
from trainables.config.sections import LoraConfig
from trainables.models import forward_probe
from trainables.models.base_model import Base
from trainables.models.flat_attention import PADDING_FREE
from trainables.models.forward_plan import ForwardPlan, hugging_face_model
from trainables.models.forward_probe import choose_plan
from trainables.models.token_losses import token_losses, token_losses_and_hits

LORA = LoraConfig(r=3, alpha=6.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {family: save_family(family, tmp_path_factory.mktemp("family")) for family in FAMILIES}


def base_of(folder, method="full", precision="fp32", **settings):
    """A base without a tokenizer, which losses don't need."""
    bf16 = precision == "bf16"
    dtype = torch.bfloat16 if bf16 and method == "lora" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    choose_plan(model, torch.bfloat16 if bf16 else None, pad_id=0)
    return Base(model, None, method, precision, **settings)


def change_plan(model, **changes):
    inner = hugging_face_model(model)
    dataclasses.replace(ForwardPlan.of(inner), **changes).attach(inner)


def with_adapter(folder, like):
    """The plain model with a plain PEFT adapter of the same weights."""
    config = peft.LoraConfig(r=3, lora_alpha=6.0, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(plain(folder), config)
    weights = dict(like.named_parameters())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(weights[name])
    return model


def shake_adapter(model, seed=5):
    """Makes the adapter matter: B is zero when it is new."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0.0, 0.2, generator=generator)


def weighted(losses):
    """A sum in which every label counts differently, so that mixed-up gradients show."""
    return (losses * torch.linspace(0.5, 1.5, len(losses))).sum()


@pytest.mark.parametrize("form", ["as planned", "padded", "all logits", "in chunks"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_the_plain_model(folders, family, method, form, monkeypatch):
    base = base_of(folders[family], method)
    model = base.prepare(LORA, 1)
    expected = plain(folders[family])
    if method == "lora":
        shake_adapter(model)
        expected = with_adapter(folders[family], model)
    plan = ForwardPlan.of(hugging_face_model(model))
    assert (plan.head_at_labels, plan.longest_flat) == (True, LONGEST_FLAT.get(family, sys.maxsize))
    assert plan.head_in_chunks
    if form == "in chunks":  # of four labels; the last is of fewer
        monkeypatch.setattr("trainables.models.token_losses.CHUNK_LOGITS", 4 * VOCABULARY)
        assert batch_of().label_tokens % 4 != 0
    if form != "as planned":
        change_plan(model, longest_flat=0)
    if form == "all logits":
        change_plan(model, head_at_labels=False)
    batch = batch_of()

    found, by_the_book = token_losses(model, batch), plain_losses(expected, batch)

    assert found.dtype == torch.float32
    torch.testing.assert_close(found, by_the_book, atol=1e-5, rtol=1e-5)
    weighted(found).backward()
    weighted(by_the_book).backward()
    gradients = {name: weight.grad for name, weight in expected.named_parameters() if weight.grad is not None}
    trained = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    if method == "lora":
        gradients = {name: gradient for name, gradient in gradients.items() if "lora_" in name}
    assert trained.keys() == gradients.keys()
    for name, gradient in gradients.items():
        scale = max(1.0, gradient.abs().max().item())
        said = {"msg": lambda text, name=name: f"{name}: {text}"}
        torch.testing.assert_close(trained[name], gradient, atol=2e-5 * scale, rtol=1e-4, **said)


@pytest.mark.parametrize("family", ["mistral, sliding", "gemma3"])
@pytest.mark.parametrize(("longest", "rows"), [(12, 1), (13, 3)])
def test_a_batch_longer_than_the_window_is_padded(folders, family, longest, rows):
    model = base_of(folders[family]).untouched()
    batch = batch_of((5, longest, 2))
    shapes = []
    model.get_input_embeddings().register_forward_hook(lambda _, args, __: shapes.append(tuple(args[0].shape)))
    with torch.no_grad():
        found = token_losses(model, batch)
        torch.testing.assert_close(found, plain_losses(plain(folders[family]), batch), atol=1e-5, rtol=1e-5)
    assert shapes == [(rows, (7 + longest) if rows == 1 else longest)]


@pytest.mark.parametrize("family", ["llama", "falcon"])
def test_the_output_head_sees_labels_only(folders, family):
    model = base_of(folders[family]).untouched()
    batch = batch_of()
    rows = []
    model.get_output_embeddings().register_forward_hook(lambda _, args, __: rows.append(args[0].shape[:-1].numel()))
    token_losses(model, batch)
    assert rows == [batch.label_tokens]
    model(input_ids=batch.input_ids[None])
    assert rows == [batch.label_tokens, batch.tokens]  # and sees all again when others call the model


@pytest.mark.parametrize("family", ["llama", "gemma2", "granite"])
def test_in_chunks_hits_are_those_of_all_logits_and_few_are_there_at_once(folders, family, monkeypatch):
    model, batch, rows = base_of(folders[family]).untouched(), batch_of(), []
    with torch.no_grad():
        whole = token_losses_and_hits(model, batch)
        monkeypatch.setattr("trainables.models.token_losses.CHUNK_LOGITS", 4 * VOCABULARY)
        model.get_output_embeddings().register_forward_hook(lambda _, args, __: rows.append(args[0].shape[-2]))
        chunked = token_losses_and_hits(model, batch)
    torch.testing.assert_close(chunked.losses, whole.losses, atol=1e-6, rtol=1e-6)
    assert chunked.hits.tolist() == whole.hits.tolist()
    assert max(rows) == 4
    assert sum(rows) == batch.label_tokens


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("family", ["llama", "gemma3", "falcon"])
def test_recomputing_gives_the_same_gradients(folders, family, method):
    gradients = []
    for recompute in (False, True):
        base = base_of(folders[family], method, gradient_checkpointing=recompute)
        model = base.prepare(LORA, 1)
        if method == "lora":
            shake_adapter(model)
        calls = []
        layer = next(module for name, module in model.named_modules() if name.endswith(("q_proj", "query_key_value")))
        layer.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        weighted(token_losses(model, batch_of())).backward()
        assert len(calls) == 1 + recompute
        gradients.append([weight.grad for weight in model.parameters() if weight.requires_grad])
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("family", ["llama", "falcon", "gpt-neox"])
def test_bf16_computes_products_in_bf16_and_losses_in_float32(folders, family, method):
    model = base_of(folders[family], method, "bf16").prepare(LORA, 1)
    kept = {weight.dtype for weight in model.parameters() if weight.requires_grad}
    frozen = {weight.dtype for weight in model.parameters() if not weight.requires_grad}
    assert kept == {torch.float32}
    assert frozen == ({torch.bfloat16} if method == "lora" else set())
    products = []
    model.get_output_embeddings().register_forward_hook(lambda _, __, output: products.append(output.dtype))
    batch = batch_of()
    found = token_losses(model, batch)
    assert (products, found.dtype) == ([torch.bfloat16], torch.float32)
    exact = plain_losses(plain(folders[family]), batch)
    assert not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, atol=0.15, rtol=0.05)
    found.sum().backward()
    assert {w.grad.dtype for w in model.parameters() if w.requires_grad} == {torch.float32}


def test_what_a_model_cannot_do_is_tried_out_and_said(folders, caplog, monkeypatch):
    """A window of 3 that the configuration is made to hide, and an output head that cannot be found."""
    monkeypatch.setattr(forward_probe, "longest_flat", lambda model: sys.maxsize)
    model = AutoModelForCausalLM.from_pretrained(folders["mistral, sliding"], sliding_window=3).eval()
    own = model.config._attn_implementation
    model.get_output_embeddings = lambda: None
    with caplog.at_level(logging.WARNING):
        plan = choose_plan(model, None, pad_id=0)
    assert plan == ForwardPlan()
    assert model.config._attn_implementation == own != PADDING_FREE
    assert [record.message.split(" ")[1] for record in caplog.records] == ["computes", "trains"]
    batch = batch_of()
    torch.testing.assert_close(token_losses(model, batch), plain_losses(model, batch), atol=1e-5, rtol=1e-5)


def test_a_head_that_wants_every_token_is_left_whole(folders):
    """A model that scales each token's logits by those before it; without a plan it is run plainly."""
    model, batch = plain(folders["llama"]), batch_of()
    torch.testing.assert_close(token_losses(model, batch), plain_losses(model, batch), atol=1e-5, rtol=1e-5)
    forward = model.forward

    def scaled(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits = output.logits / (1 + output.logits.abs().mean(-1, keepdim=True).cumsum(1))
        return output

    model.forward = scaled
    assert not choose_plan(model, None, pad_id=0).head_at_labels


def test_lengths_of_the_probe_and_the_tests_leave_no_label_out():
    batch = batch_of()
    assert (len(batch), batch.tokens, batch.max_length) == (len(LENGTHS), sum(LENGTHS), max(LENGTHS))
    assert set(batch.label_item.tolist()) == {0, 1, 2, 4}  # a sequence of one token predicts nothing
