"""Tiny random models of every family, batches for them, and a plain reference: padding, all logits, eager attention."""

import math

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from trainables.data.dataset import TokenSequence, collate

CPU = torch.device("cpu")
VOCABULARY = 50
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256}
GATED = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2}
HEADED = {**GATED, "head_dim": 8}

FAMILIES = {
    "llama": ("Llama", GATED),
    "mistral": ("Mistral", {**GATED, "sliding_window": None}),
    "mistral, sliding": ("Mistral", {**GATED, "sliding_window": 12}),
    "falcon": ("Falcon", {**SIZES, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon, multi-query": ("Falcon", {**SIZES, "parallel_attn": True, "multi_query": True}),
    "falcon, alibi": ("Falcon", {**SIZES, "alibi": True, "new_decoder_architecture": False, "multi_query": False}),
    "gpt-neox": ("GPTNeoX", {**SIZES, "intermediate_size": 48}),
    "qwen2": ("Qwen2", GATED),
    "qwen3": ("Qwen3", HEADED),
    "gemma": ("Gemma", HEADED),
    "gemma2": ("Gemma2", {**HEADED, "sliding_window": 12, "query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3Text", {**HEADED, "sliding_window": 12, "query_pre_attn_scalar": 8, "layer_types": None}),
    "granite": ("Granite", {**GATED, "logits_scaling": 4.0, "embedding_multiplier": 3.0}),
    "cohere": ("Cohere", {**GATED, "logit_scale": 0.25}),
}
FAMILIES = {family: (getattr(transformers, f"{kind}Config"), sizes) for family, (kind, sizes) in FAMILIES.items()}

NEVER_FLAT = ("falcon", "falcon, multi-query", "falcon, alibi", "gemma2")
# The longest sequence that goes without padding, of families that have a limit.
LONGEST_FLAT = {"mistral, sliding": 12, "gemma3": 12, **dict.fromkeys(NEVER_FLAT, 0)}

LENGTHS = (7, 3, 11, 1, 8)


def save_family(family, folder, seed=0, vocabulary=VOCABULARY, **special):
    """A model of a family with random weights, large enough that attention and logits differ; no tokenizer."""
    kind, sizes = FAMILIES[family]
    torch.manual_seed(seed)
    special = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0, **special}
    model = AutoModelForCausalLM.from_config(kind(vocab_size=vocabulary, **special, **sizes))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0.0, 1.0 / math.sqrt(weight.shape[-1]))
            else:
                weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return folder


def plain(folder):
    """The model as transformers loads it, with attention written out."""
    # Written-out attention counts Falcon's ALiBi twice (transformers 5.23): it is in the mask already.
    attention = "sdpa" if getattr(AutoConfig.from_pretrained(folder), "alibi", False) else "eager"
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention).eval()


def sequences(lengths=LENGTHS, seed=0, vocabulary=VOCABULARY):
    """Random tokens; about half of them labels, in several stretches, as in a chat of several turns."""
    random = np.random.Generator(np.random.PCG64(seed))
    listed = []
    for place, length in enumerate(lengths):
        mask = random.random(length) < 0.5
        mask[0], mask[-1] = False, length > 1
        listed.append(TokenSequence(f"s{place}", random.integers(2, vocabulary, length).astype(np.int32), mask))
    return listed


def batch_of(lengths=LENGTHS, seed=0):
    return collate(sequences(lengths, seed))


def plain_losses(model, batch):
    """(L,) by the book: each sequence alone, log-softmax of all logits, the label's entry."""
    losses = []
    starts = batch.cu_seqlens.tolist()
    for item in range(len(batch)):
        ids = batch.input_ids[starts[item] : starts[item + 1]]
        log_probs = model(input_ids=ids[None]).logits[0].float().log_softmax(-1)
        mine = batch.label_item == item
        at = batch.label_positions[mine] - starts[item]
        losses.append(-log_probs[at, batch.labels[mine]])
    return torch.cat(losses)
