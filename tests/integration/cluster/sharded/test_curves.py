"""Two workers that hold half of the weights each train as one worker that holds them all does."""

from pathlib import Path

import pytest
import torch

from tests.integration.cluster.gloo_workers import on_two_workers
from tests.unit.trainables.byte_tokenizer import byte_level
from tests.unit.trainables.models.helpers import save_family
from tests.unit.trainables.training.helpers import Memory, exact_part, lane, tokenized, trial
from trainables.config.sections import ModelConfig
from trainables.data.dataset import TokenizedSet
from trainables.models import token_losses
from trainables.models.base_model import load_base
from trainables.models.sharding.shards import local, whole
from trainables.training.loop import Loop, TrialRun, World

pytestmark = pytest.mark.slow

WHOLE = token_losses.CHUNK_LOGITS
# 17 samples, 4 a step: the last step has 1, and the second worker none.
FAMILIES = ("llama", "mistral", "gpt-neox", "falcon")
CASES = {
    **{family: {"family": family} for family in FAMILIES},
    **{f"{family}, lora": {"family": family, "method": "lora"} for family in FAMILIES},
    # 8 a step in 2 micro-batches each, and again in parts of at most 60 tokens: other numbers of them on each worker.
    "micro-batches": {
        "family": "llama",
        "gradient_accumulation": 2,
        "micro_batch_tokens": 60,
        "gradient_checkpointing": True,
    },
    "micro-batches, lora": {
        "family": "llama",
        "method": "lora",
        "gradient_accumulation": 2,
        "micro_batch_tokens": 60,
        "gradient_checkpointing": True,
    },
    "alone, lora": {"family": "llama", "method": "lora", "micro_batch_tokens": 60, "optimizer": "adamw_8bit"},
    # The head on 5 labels at a time, of which the workers have unequal numbers.
    "chunks": {"family": "gpt-neox", "chunk": 5},
    "chunks, recomputing": {"family": "mistral", "chunk": 5, "gradient_checkpointing": True},
    "chunks, lora": {"family": "llama", "method": "lora", "chunk": 5},
    "clipped": {"family": "gpt-neox", "max_grad_norm": 0.05, "weight_decay": 0.1},
}


def train(base, world, data, config, resume=None, peak_lr=2e-3):
    """A trial's records, weights at each checkpoint, resume states and outcome."""
    seen, states, weights = Memory(), {}, []
    seen.on_checkpoint = lambda _, model: weights.append(
        [whole(weight.detach()).clone() for weight in model.parameters() if weight.requires_grad]
    )
    hooks = seen.hooks(save_state=lambda step, state: states.update({step: {n: t.clone() for n, t in state.items()}}))
    trial_run = TrialRun(data, trial(peak_lr=peak_lr, decay_floor=0.2 * peak_lr), config, hooks, world)
    if resume:
        trial_run.resume_from(*resume)
    outcome = Loop(base, world).train(trial_run)
    return {"outcome": outcome, "records": seen.records, "weights": weights, "states": states}


def train_all(world, batch_size, folder):
    results, data = {}, TokenizedSet(Path(folder) / "sums-17-0.arrow")
    for name, case in CASES.items():
        case = dict(case)
        path, method = Path(folder) / case.pop("family"), case.pop("method", "full")
        chunk = case.pop("chunk", None)
        config = lane(method, batch_size=batch_size, **case)
        base = load_base(
            path,
            ModelConfig(name=str(path), method=method),
            "fp32",
            "cpu",
            gradient_checkpointing=config.training.gradient_checkpointing,
            sharded=world.size > 1,
        )
        vocabulary = base.untouched().config.vocab_size
        token_losses.CHUNK_LOGITS = chunk * vocabulary if chunk else WHOLE
        found = results[name] = train(base, world, data, config)
        weights = list(base.untouched().parameters())
        found["parts"] = sum(local(weight).numel() for weight in weights), sum(weight.numel() for weight in weights)
        if world.size > 1:
            found["again"] = train(base, world, data, config)["records"]
            ((step, state),) = found["states"].items()
            lines = [vars(record) for record in found["records"][:step]]
            found["rest"] = train(base, world, data, config, (step, state, lines))["records"]
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    tokenizer = byte_level()
    for family in FAMILIES:
        save_family(family, folder / family, vocabulary=len(tokenizer))
        tokenizer.save_pretrained(folder / family)
    tokenized(folder, tokenizer, 17)
    workers, alone = on_two_workers(folder, train_all, 2, folder, meanwhile=lambda: train_all(World(), 4, folder))
    return alone, workers


@pytest.mark.parametrize("name", CASES)
def test_the_curve_is_that_of_one_worker_with_twice_the_batch(results, name):
    alone, workers = results
    expected = alone[name]
    for found in (worker[name] for worker in workers):
        assert found["outcome"] == expected["outcome"]
        for mine, theirs in zip(found["records"], expected["records"], strict=True):
            assert exact_part(mine) == exact_part(theirs)
            assert mine.loss == pytest.approx(theirs.loss, abs=1e-5)
            assert mine.item_nll == pytest.approx(theirs.item_nll, abs=1e-5)
            assert mine.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-4)
            assert mine.clipped == theirs.clipped
        for mine, theirs in zip(found["weights"][-1], expected["weights"][-1], strict=True):
            # A key's bias does not change the loss: its gradient is rounding alone, which AdamW scales up to a step.
            if mine.ndim > 1:
                torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_each_worker_holds_its_part_only(results, name):
    _, workers = results
    held = [worker[name]["parts"][0] for worker in workers]
    assert sum(held) == workers[0][name]["parts"][1]
    assert max(held) < 0.52 * sum(held)


@pytest.mark.parametrize("name", CASES)
def test_the_base_is_restored_and_a_trial_resumes_to_the_bit(results, name):
    for found in (worker[name] for worker in results[1]):
        assert found["again"] == found["records"]
        assert found["rest"] == found["records"][-len(found["rest"]) :]
        assert 0 < len(found["rest"]) < len(found["records"])
