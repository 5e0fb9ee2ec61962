"""What a lane keeps where memory ran out within a collective pass, and what its next start makes of it."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.unit.trainables.training.helpers import Memory, lane, trial
from trainables.optim.step import PassRanOutError, StepPart, memory_ends_the_trial
from trainables.optim.workers import SOLO, World
from trainables.training import found_limit
from trainables.training.trial_run import TrialRun


@pytest.mark.parametrize(
    ("asked", "kept", "tokens"),
    [("auto", [], "auto"), ("auto", [512], 512), ("auto", [256, 512], 256), (100, [512], 100), (1024, [512, 300], 300)],
)
def test_the_next_start_takes_the_lowest(tmp_path, asked, kept, tokens):
    settings = lane("full", micro_batch_tokens=asked).model_copy(update={"output_dir": str(tmp_path)})
    for number in kept:
        found_limit.keep(tmp_path, number)
    assert found_limit.with_found(settings, SOLO).training.micro_batch_tokens == tokens


def test_of_several_that_keep_a_number_at_once_the_lowest_stays(tmp_path, monkeypatch):
    read = found_limit._found
    monkeypatch.setattr(found_limit, "_found", lambda folder: (read(folder), time.sleep(0.05))[0])
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda number: found_limit.keep(tmp_path, number), [300, 30, 200, 100]))
    assert read(tmp_path) == [30]


@pytest.mark.parametrize(("size", "half"), [(4, True), (1, False)])
def test_half_is_asked_for_only_where_a_batch_has_several_samples(samples, size, half):
    data = samples(8)
    batch = data.batch(range(size))
    with pytest.raises(PassRanOutError) as caught, memory_ends_the_trial([StepPart([batch], 1, 0.0)]):
        raise torch.OutOfMemoryError("planted")
    error = pickle.loads(pickle.dumps(caught.value))  # as Ray sends it
    assert error.half == (batch.tokens // 2 if half else None)
    remedy = f"training.micro_batch_tokens to {error.half}" if half else "a sample each: set training.gradient_check"
    assert f"up to {batch.tokens} tokens" in str(error)
    assert remedy in str(error)


class TwoWorkers(World):
    """The second of two, without the first."""

    def __post_init__(self):
        pass


@pytest.mark.parametrize(("keeps_step", "fillers"), [(True, 1), (False, 0)])
def test_only_workers_that_pass_in_step_fill_up(samples, keeps_step, fillers):
    """Of 5 samples, 4 a step, the last step gives the second worker none."""
    config = lane("full", batch_size=2)
    run = TrialRun(samples(5), trial(), config, Memory().hooks(), TwoWorkers(1, 2))
    run.keeps_step, run.step = keeps_step, 1
    part = run.next_step()
    assert (len(part.micro_batches), len(part.fillers)) == (0, fillers)
