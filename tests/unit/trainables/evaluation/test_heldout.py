import math
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.unit.trainables.training.helpers import TEMPLATE, load_tiny, padded_nll, sums
from trainables.config.data_sections import AreaConfig, HeldoutConfig
from trainables.config.sections import LoraConfig
from trainables.data.dataset import TokenizedSet
from trainables.data.tokenization import tokenize
from trainables.evaluation.generation import greedy_answers
from trainables.evaluation.heldout import ItemScore, score_area, summarize
from trainables.evaluation.objective import objective
from trainables.evaluation.scorers import exact_match, load_scorers, token_f1
from trainables.models.token_losses import token_losses
from trainables.reliability import activity

AREA = AreaConfig(path="sums.jsonl", max_new_tokens=8, scorers=["exact_match", {"word_limit": 3}])


@pytest.fixture(scope="module")
def lively(tiny, tokenizer, tmp_path_factory):
    """The tiny model with larger weights: as it is, it says the same to every prompt."""
    folder = tmp_path_factory.mktemp("model")
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight.mul_(8.0 if weight.ndim > 1 else 1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def items(samples):
    return samples(17, 3)


@pytest.fixture(scope="module")
def plain(lively):
    return AutoModelForCausalLM.from_pretrained(lively, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def model(lively):
    return load_tiny(lively).prepare(LoraConfig(r=2), 0)


def score(model, tokenizer, items, area=AREA, with_answers=False, batch_tokens=200):
    heldout = HeldoutConfig(areas={"sums": area}, batch_tokens=batch_tokens, answer_batch_size=4)
    scorers = load_scorers(area.scorers)
    return score_area(model, tokenizer, items, "sums", heldout, scorers, with_answers=with_answers)


def test_each_items_loss_is_that_of_the_plain_model(model, tokenizer, items, plain):
    scores = score(model, tokenizer, items)
    with torch.no_grad():
        expected = [padded_nll(plain, items, [i]) for i in range(len(items))]
    assert [s.id for s in scores] == items.ids
    assert [s.tokens for s in scores] == [tokens[0] for _, tokens in expected]
    assert [s.nll for s in scores] == pytest.approx([nll.item() / tokens[0] for nll, tokens in expected], abs=1e-5)
    assert {(s.area, s.answer, s.exact_match, s.token_f1) for s in scores} == {("sums", None, None, None)}


@pytest.mark.parametrize("batch_tokens", [64, 1000, 100_000])
def test_losses_do_not_depend_on_how_many_are_scored_at_once(model, tokenizer, items, batch_tokens):
    expected = [s.nll for s in score(model, tokenizer, items)]
    found = [s.nll for s in score(model, tokenizer, items, batch_tokens=batch_tokens)]
    assert found == pytest.approx(expected, abs=1e-5)


def test_answers_are_those_of_generate_one_by_one(model, tokenizer, items, plain):
    scores = score(model, tokenizer, items, with_answers=True)
    for i, found in enumerate(scores):
        prompt = torch.tensor(items.prompt_ids(i).tolist())[None]
        marks = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        given = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 8, "do_sample": False}
        generated = plain.generate(prompt, **given, **marks)
        answer = tokenizer.decode(generated[0, prompt.shape[1] :], skip_special_tokens=True)
        assert found.answer.strip() == answer.strip()
        reference = items.item(i).response
        assert found.exact_match == exact_match(answer, reference)
        assert found.token_f1 == token_f1(answer, reference)
        assert found.scores == {"word_limit": float(1 <= len(answer.split()) <= 3)}
    assert len({s.answer for s in scores}) > 5


@pytest.mark.parametrize("training", [True, False])
def test_the_model_comes_back_in_the_mode_it_was_in(model, tokenizer, items, training):
    model.train(training)
    score(model, tokenizer, items, with_answers=True)
    assert model.training is training
    assert all(weight.grad is None for weight in model.parameters())


def test_dropout_is_off(lively, tokenizer, items):
    model = load_tiny(lively).prepare(LoraConfig(r=2, dropout=0.5), 0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
    model.train()
    assert score(model, tokenizer, items) == score(model, tokenizer, items)


def test_a_summary_is_the_mean_over_items_not_over_tokens():
    scores = [
        ItemScore("a", "1", 2.0, 10, "x", 1.0, 1.0, {"word_limit": 1.0}, cut=True),
        ItemScore("a", "2", 1.0, 90, "y", 0.0, 0.5, {"word_limit": 0.0}, cut=False),
    ]
    counts = {"cut_answers": 1, "items": 2}
    assert summarize(scores) == {"nll": 1.5, "exact_match": 0.5, "token_f1": 0.75, "word_limit": 0.5, **counts}
    without_answers = summarize([ItemScore("a", "1", 2.0, 10)])
    assert without_answers == {"nll": 2.0, "exact_match": None, "token_f1": None, "cut_answers": None, "items": 1}


@pytest.mark.parametrize(
    ("nll", "weights", "expected"),
    [
        ({"a": 1.0, "b": 3.0}, {"a": 1.0, "b": 1.0}, 2.0),
        ({"a": 1.0, "b": 3.0}, {"a": 3.0, "b": 1.0}, 1.5),
        ({"a": 1.0, "b": 3.0, "unweighted": 99.0}, {"a": 2.0, "b": 2.0}, 2.0),
    ],
)
def test_the_objective_is_the_weighted_mean(nll, weights, expected):
    summaries = {name: {"nll": value} for name, value in nll.items()}
    assert objective(summaries, weights) == expected
    with pytest.raises(KeyError):
        objective(summaries, weights | {"without a summary": 1.0})


def test_a_loss_that_is_not_finite_stays_visible():
    scores = [ItemScore("a", "1", math.nan, 10), ItemScore("a", "2", 1.0, 10)]
    summary = summarize(scores)
    assert math.isnan(summary["nll"])
    assert math.isnan(objective({"a": summary, "b": {"nll": 1.0}}, {"a": 1.0, "b": 1.0}))


@pytest.fixture(scope="module")
def parrot(lively, tokenizer, tmp_path_factory):
    """A model that was taught to answer "ok" to all, and items to half of which that is the reference."""
    folder = tmp_path_factory.mktemp("parrot")
    for name, texts in {"lesson": ["ok"] * 8, "items": ["ok", "no"] * 4}.items():
        samples = [
            replace(sample, messages=[*sample.messages[:-1], {"role": "assistant", "content": text}])
            for sample, text in zip(sums(8), texts, strict=True)
        ]
        tokenize(samples, tokenizer, TEMPLATE, 256, folder / f"{name}.arrow")
    lesson = TokenizedSet(folder / "lesson.arrow").batch(range(8))
    model = load_tiny(lively, "full").prepare(LoraConfig(), 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        token_losses(model, lesson).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, TokenizedSet(folder / "items.arrow")


def test_an_answer_that_the_losses_tell_is_the_one_that_generate_gives(parrot, tokenizer, monkeypatch):
    model, items = parrot
    generated = [one.text for one in greedy_answers(model, tokenizer, [items.prompt_ids(i) for i in range(8)], 8)]
    assert generated == ["ok"] * 8
    asked = []

    def remember(model, tokenizer, prompts, *rest):
        asked.extend(prompts)
        return greedy_answers(model, tokenizer, prompts, *rest)

    monkeypatch.setattr("trainables.evaluation.heldout.greedy_answers", remember)
    heard = []
    with activity.reported_to(lambda doing, share: heard.append((doing, share))):
        scores = score(model, tokenizer, items, with_answers=True)
    assert (heard[0][0], heard[-1]) == ("scoring", ("answering", 1.0))
    assert ("scoring", 1.0) in heard
    assert [s.answer for s in scores] == generated
    assert [s.exact_match for s in scores] == [1.0, 0.0] * 4
    assert len(asked) == 4, "only the items whose reference is not what the model says are generated"


def test_a_response_longer_than_an_answer_may_be_is_generated_and_so_cut(parrot, tokenizer):
    model, items = parrot
    short = AREA.model_copy(update={"max_new_tokens": 2})
    scores = score(model, tokenizer, items, short, with_answers=True)
    assert {s.answer for s in scores} == {"o"}
