"""Two workers with a batch of b each train as one worker with a batch of 2b does."""

from pathlib import Path

import pytest
import torch

from tests.integration.cluster.gloo_workers import on_two_workers
from tests.unit.trainables.training.helpers import Memory, exact_part, lane, tokenized, trial
from trainables.config.sections import ModelConfig
from trainables.data.dataset import TokenizedSet
from trainables.models.base_model import load_base, load_tokenizer, resolve_model
from trainables.optim import optimizer
from trainables.packing import model as packed_model
from trainables.training.loop import Loop, TrialRun, World

CASES = {
    # 19 samples, 4 a step: the last step has 3, shared 2 and 1.
    "lora": {"method": "lora", "samples": 19},
    "full": {"method": "full", "samples": 19},
    # 17 samples: the last step has 1, and the second worker none.
    "one idle": {"method": "lora", "samples": 17},
    "one idle, full": {"method": "full", "samples": 17},
    # 8 a step in 2 micro-batches each; the last step has 5: micro-batches of 2 and 1 here, of 2 there.
    "accumulation": {"method": "lora", "samples": 21, "gradient_accumulation": 2},
    "recomputed": {"method": "lora", "samples": 21, "gradient_checkpointing": True},
    # Memory runs out on the second worker alone, in the backward pass; both split their batches.
    "memory": {"method": "lora", "samples": 19, "fits": 60},
    "memory, full": {"method": "full", "samples": 19, "fits": 60},
    "stopped": {"method": "lora", "samples": 19, "stop_at": 2},
    "diverged": {"method": "lora", "samples": 19, "peak_lr": 1e30, "max_grad_norm": 0.0},
}
CURVES = [name for name in CASES if name not in ("stopped", "diverged")]


def train_all(world, batch_size, path, folder):
    """All cases on bases that serve one after another; what each left behind."""
    bases, results = {}, {}
    for name, case in CASES.items():
        case = dict(case)
        method, samples, stop_at = case.pop("method"), case.pop("samples"), case.pop("stop_at", None)
        spec = trial(peak_lr=case.pop("peak_lr", 2e-3), decay_floor=4e-4)
        fits = case.pop("fits", None)
        config = lane(method, batch_size=batch_size, **case)
        recompute = config.training.gradient_checkpointing
        if (method, recompute) not in bases:
            bases[method, recompute] = load_base(path, config.model, "fp32", "cpu", gradient_checkpointing=recompute)
        # Only the first worker is told to stop.
        seen = Memory(stop_at=stop_at if stop_at is not None and world.rank == 0 else float("inf"))
        weights = []
        seen.on_checkpoint = lambda _, model, weights=weights: weights.append(
            [weight.detach().clone() for weight in model.parameters() if weight.requires_grad]
        )
        data = TokenizedSet(Path(folder) / f"sums-{samples}-0.arrow")
        with pytest.MonkeyPatch.context() as patched:
            planted = limit_memory(patched, fits) if fits and world.rank == 1 else []
            outcome = Loop(bases[method, recompute], world).train(TrialRun(data, spec, config, seen.hooks(), world))
        results[name] = {"outcome": outcome, "records": seen.records, "weights": weights, "refused": planted}
    return results


def limit_memory(patched, tokens):
    """Lets no backward pass have more tokens than that; its part of the gradient stays. Returns the refused."""
    refused = []
    for module in (optimizer, packed_model):
        own = module.token_losses

        def limited(model, batch, own=own):
            losses = own(model, batch)
            if batch.tokens > tokens:
                losses.sum().backward()
                refused.append(batch.tokens)
                raise torch.OutOfMemoryError("planted")
            return losses

        patched.setattr(module, "token_losses", limited)
    return refused


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    path = resolve_model(ModelConfig(name="random:tiny-llama"), folder / "cache")
    for samples in {case["samples"] for case in CASES.values()}:
        tokenized(folder, load_tokenizer(path), samples)
    workers, alone = on_two_workers(
        folder, train_all, 2, path, folder, meanwhile=lambda: train_all(World(), 4, path, folder)
    )
    return alone, workers


@pytest.mark.parametrize("name", CURVES)
def test_two_workers_draw_the_curve_of_one_with_twice_the_batch(results, name):
    alone, (first, _) = results
    expected, found = alone[name], first[name]
    assert found["outcome"] == expected["outcome"]
    assert found["outcome"].state == "complete"
    for mine, theirs in zip(found["records"], expected["records"], strict=True):
        assert exact_part(mine) == exact_part(theirs)
        assert mine.loss == pytest.approx(theirs.loss, abs=1e-5)
        assert mine.item_nll == pytest.approx(theirs.item_nll, abs=1e-5)
        assert mine.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-4)
    for mine, theirs in zip(found["weights"][-1], expected["weights"][-1], strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_both_workers_see_the_same_and_end_with_the_same_weights(results, name):
    _, (first, second) = results
    assert first[name]["outcome"].steps == second[name]["outcome"].steps
    assert first[name]["outcome"].state == second[name]["outcome"].state
    assert len(first[name]["records"]) == len(second[name]["records"])
    for mine, theirs in zip(first[name]["weights"], second[name]["weights"], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("name", ["memory", "memory, full"])
def test_memory_did_run_out_on_the_second_worker(results, name):
    _, (first, second) = results
    assert (first[name]["refused"], len(second[name]["refused"]) > 0) == ([], True)


def test_a_stop_on_one_worker_stops_both_at_the_same_step(results):
    _, workers = results
    for found in workers:
        assert (found["stopped"]["outcome"].state, found["stopped"]["outcome"].steps) == ("stopped", 2)
        assert len(found["stopped"]["records"]) == 2


def test_a_divergence_ends_both(results):
    _, workers = results
    for found in workers:
        assert found["diverged"]["outcome"].state == "diverged"
        assert found["diverged"]["outcome"].findings
        assert found["diverged"]["weights"] == []
