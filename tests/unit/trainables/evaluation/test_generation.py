import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from tests.unit.trainables.models.adapter.architectures import save_architecture
from tests.unit.trainables.models.helpers import FAMILIES, plain, save_family
from tests.unit.trainables.training.helpers import load_tiny
from trainables.config.sections import LoraConfig
from trainables.evaluation import generation
from trainables.evaluation.generation import end_tokens, greedy_answers
from trainables.models.forward_probe import answers_together, choose_plan
from trainables.models.pretrained import load_tokenizer
from trainables.models.tiny_llama import byte_tokenizer

NEW = 7
PROMPTS = ["What?", "a", "The sum of 3 and 14", "tell me: 19 + 4 =", "zz zz"]


@pytest.fixture(scope="module")
def prompts(tokenizer):
    return [np.array(tokenizer(text).input_ids, dtype=np.int32) for text in PROMPTS]


def written(*arguments, **named):
    return [answer.text for answer in greedy_answers(*arguments, **named)]


def likeliest(model, prompt, ends):
    """The likeliest next token, again and again, with the whole text run anew each time."""
    tokens = prompt.tolist()
    with torch.no_grad():
        for _ in range(NEW):
            tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
            if tokens[-1] in ends:
                break
    return tokens[len(prompt) :]


def token_by_token(model, tokenizer, prompt, ends):
    tokens = [token for token in likeliest(model, prompt, ends) if token not in ends]
    return tokenizer.decode(tokens, skip_special_tokens=True).strip()


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_each_prompt_alone(family, tokenizer, prompts, tmp_path):
    special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    folder = save_family(family, tmp_path / "model", vocabulary=len(tokenizer), **special)
    reference = plain(folder)
    expected = [token_by_token(reference, tokenizer, prompt, {tokenizer.eos_token_id}) for prompt in prompts]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    choose_plan(model, None, tokenizer.pad_token_id)
    assert written(model, tokenizer, prompts, NEW, batch_size=3) == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize(("kind", "together"), [("rwkv", False), ("mamba", True), ("gpt2", True), ("bloom", True)])
def test_a_model_that_reads_padding_answers_one_by_one(kind, together, tokenizer, prompts, tmp_path):
    folder = save_architecture(kind, tmp_path / kind, tokenizer)
    reference = AutoModelForCausalLM.from_pretrained(folder).eval()
    expected = [token_by_token(reference, tokenizer, prompt, {1, tokenizer.eos_token_id}) for prompt in prompts]
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    choose_plan(model, None, tokenizer.pad_token_id)
    assert written(model, tokenizer, prompts, NEW, batch_size=3) == expected
    assert answers_together(model, tokenizer.pad_token_id) == together


def test_a_padding_token_without_an_embedding_is_not_used(tiny, tokenizer, prompts):
    """Tokenizers get one after the model's training."""
    model = plain(tiny)
    expected = written(model, tokenizer, prompts, NEW, batch_size=3)
    added = byte_tokenizer()
    added.add_special_tokens({"pad_token": "[PAD]"})
    assert added.pad_token_id == model.get_input_embeddings().num_embeddings
    assert written(model, added, prompts, NEW, batch_size=3) == expected


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_batches_do_not_show(base, tiny, tokenizer, prompts, batch_size):
    model = plain(tiny)
    expected = [token_by_token(model, tokenizer, prompt, {tokenizer.eos_token_id}) for prompt in prompts]
    assert written(base.untouched(), tokenizer, prompts, NEW, batch_size) == expected


@pytest.mark.parametrize("fits", [2, 0])
def test_where_memory_runs_out_fewer_prompts_are_answered_at_once(base, tokenizer, prompts, monkeypatch, fits):
    expected = written(base.untouched(), tokenizer, prompts, NEW)
    own, sizes = generation._continue, []

    def limited(model, chosen, *more):
        if len(chosen) > fits:
            raise torch.OutOfMemoryError("planted")
        sizes.append(len(chosen))
        return own(model, chosen, *more)

    monkeypatch.setattr(generation, "_continue", limited)
    if not fits:
        with pytest.raises(torch.OutOfMemoryError):
            written(base.untouched(), tokenizer, prompts, NEW)
        return
    assert written(base.untouched(), tokenizer, prompts, NEW) == expected
    assert sum(sizes) == len(prompts)


def test_an_adapter_answers_too(base, tokenizer, prompts):
    before = written(base.untouched(), tokenizer, prompts, NEW)
    model = base.prepare(LoraConfig(r=2), 0)
    assert written(model, tokenizer, prompts, NEW) == before  # B is zero
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    expected = [token_by_token(model.eval(), tokenizer, prompt, {tokenizer.eos_token_id}) for prompt in prompts]
    assert expected != before
    assert written(model, tokenizer, prompts, NEW) == expected


def test_the_models_own_generation_settings_do_not_matter(base, tokenizer, prompts):
    model = base.untouched()
    expected = written(model, tokenizer, prompts, NEW)
    sampling = {"do_sample": True, "temperature": 3.0, "top_k": 2, "num_beams": 3, "bad_words_ids": [[40], [41]]}
    limits = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "min_new_tokens": 6, "max_length": 3}
    own = GenerationConfig(forced_eos_token_id=9, eos_token_id=tokenizer.eos_token_id, **sampling, **limits)
    model.generation_config = own
    assert written(model, tokenizer, prompts, NEW) == expected
    assert model.generation_config is own


def test_an_answer_ends_at_each_end_token_of_model_or_tokenizer(base, tiny, tokenizer, prompts):
    model = base.untouched()
    whole = written(model, tokenizer, prompts, NEW)
    reference = plain(tiny)
    stop = likeliest(reference, prompts[0], set())[2]
    model.generation_config = GenerationConfig(eos_token_id=[stop, 5])
    assert set(end_tokens(model, tokenizer, [])) == {stop, 5, tokenizer.eos_token_id}
    ends = set(end_tokens(model, tokenizer, []))
    expected = [token_by_token(reference, tokenizer, prompt, ends) for prompt in prompts]
    assert written(model, tokenizer, prompts, NEW) == expected != whole


def test_an_answer_without_an_end_token_is_cut(base, tiny, tokenizer, prompts):
    model, reference = base.untouched(), plain(tiny)
    own = [likeliest(reference, prompt, set()) for prompt in prompts]
    stop = own[0][2]
    model.generation_config = GenerationConfig(eos_token_id=[stop, tokenizer.eos_token_id])
    expected = [{stop, tokenizer.eos_token_id}.isdisjoint(tokens) for tokens in own]
    assert [answer.cut for answer in greedy_answers(model, tokenizer, prompts, NEW)] == expected
    assert set(expected) == {True, False}
    first = own[0].index(stop) + 1  # an end token in the last place ends the answer
    assert not greedy_answers(model, tokenizer, prompts[:1], first)[0].cut
    assert greedy_answers(model, tokenizer, prompts[:1], first - 1)[0].cut


def test_without_any_end_token_there_is_no_answer(tiny, prompts):
    tokenizer = load_tokenizer(tiny)
    tokenizer.eos_token = None
    model = plain(tiny)
    model.generation_config = GenerationConfig()
    with pytest.raises(ValueError, match="end token"):
        written(model, tokenizer, prompts, NEW)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_comes_back_as_it_came(tiny, tokenizer, prompts, training):
    model = load_tiny(tiny, "full").prepare(LoraConfig(), 0).train(training)
    own = model.generation_config
    written(model, tokenizer, prompts, NEW)
    assert model.training is training
    with pytest.raises(IndexError):  # a token that the model does not have
        written(model, tokenizer, [np.array([10_000], dtype=np.int32)], NEW)
    assert (model.training, model.generation_config) == (training, own)


def test_bf16_generates_in_bf16(tiny, tokenizer, prompts):
    model = load_tiny(tiny, "full", "bf16").untouched()
    kept = []
    model.get_output_embeddings().register_forward_hook(lambda _, __, output: kept.append(output.dtype))
    answers = written(model, tokenizer, prompts, NEW)
    assert set(kept) == {torch.bfloat16}
    assert len(answers) == len(prompts)
