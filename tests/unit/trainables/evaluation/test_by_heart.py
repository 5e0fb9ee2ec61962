"""A model that knows an item by heart answers it right, whatever its chat template writes around answers."""

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from tests.unit.trainables.data.template import helpers
from tests.unit.trainables.data.template.helpers import HERON, TWO, sample, tokenizer_with
from trainables.config.data_sections import AreaConfig, HeldoutConfig
from trainables.data.dataset import TokenizedSet
from trainables.data.tokenization import tokenize
from trainables.evaluation.generation import greedy_answers
from trainables.evaluation.heldout import score_area, summarize
from trainables.models.forward_probe import choose_plan
from trainables.models.token_losses import token_losses

AREA = HeldoutConfig(areas={"x": AreaConfig(path="x", max_new_tokens=40)}, batch_tokens=1000, answer_batch_size=1)
REASONED = {**TWO, "reasoning_content": "Birds."}
STEPS = 60


def learnt_by_heart(tokenizer, data):
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=256,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=None,
        )
    )
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    choose_plan(model, None, tokenizer.pad_token_id)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        loss = token_losses(model, data.batch([0])).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.05
    return model


@pytest.mark.parametrize(
    ("template", "answer", "eos"),
    [
        (helpers.PLAIN, TWO, "<|stop|>"),
        (helpers.EMPTY_THOUGHT, TWO, "<|stop|>"),
        (helpers.HEADER, TWO, "<|stop|>"),
        (helpers.OPENED, TWO, "<|stop|>"),
        (helpers.NO_END, TWO, "<|stop|>"),
        (helpers.NEXT_MARKER, TWO, "<|stop|>"),
        (helpers.PLAIN, TWO, "<|return|>"),  # the template ends turns with another token than the tokenizer's
        (helpers.REASONING, REASONED, "<|stop|>"),
    ],
)
def test_an_item_known_by_heart_is_answered_right(tmp_path, template, answer, eos):
    tokenizer = tokenizer_with(template, eos)
    tokenize([sample(HERON, answer)], tokenizer, None, 500, tmp_path / "x.arrow")
    data = TokenizedSet(tmp_path / "x.arrow")
    model = learnt_by_heart(tokenizer, data)
    scored = score_area(model, tokenizer, data, "x", AREA, {}, with_answers=True)
    assert [(score.answer, score.exact_match) for score in scored] == [("two", 1.0)]
    # Generated token by token too, not only read off the losses.
    answers = greedy_answers(model, tokenizer, [data.prompt_ids(0)], 40, 1, data.label_ends, [data.answer_mark(0)])
    assert answers == [("two", False)]
    assert [score.cut for score in scored] == [False]
    short = HeldoutConfig(areas={"x": AreaConfig(path="x", max_new_tokens=1)})
    (score,) = score_area(model, tokenizer, data, "x", short, {}, with_answers=True)
    assert score.cut
    assert summarize([score, score])["cut_answers"] == 2


def test_plain_text_is_scored_and_asks_nothing(tmp_path):
    tokenizer = tokenizer_with(helpers.PLAIN)
    tokenize([sample(text="Herons stand."), sample(HERON, TWO)], tokenizer, None, 500, tmp_path / "x.arrow")
    data = TokenizedSet(tmp_path / "x.arrow")
    text, question = score_area(learnt_by_heart(tokenizer, data), tokenizer, data, "x", AREA, {}, with_answers=True)
    assert (text.answer, text.exact_match, text.tokens) == (None, None, len("Herons stand.") - 1)
    assert text.nll < 0.1
    assert question.answer is not None
