"""The writer and its snapshots: what is written is what stood there, in order, in buffers that are used again."""

import threading

import pytest
import torch

from trainables.checkpoints.async_writer import Pending, Writer
from trainables.checkpoints.host_snapshots import Snapshots


def tensors(value, size=4):
    return {"a": torch.full((size,), value), "b": torch.full((size, 2), value)}


def test_it_writes_in_order_what_stood_there_when_it_was_asked():
    writer, held, written = Writer(), threading.Event(), []
    weights = tensors(0.0)
    for step in range(4):
        weights["a"].fill_(step)
        room = writer.reserve(weights)
        writer.submit(weights, lambda copy: (held.wait(), written.append(copy["a"].tolist())), room)
    weights["a"].fill_(-1)
    held.set()
    writer.close()
    assert written == [[float(step)] * 4 for step in range(4)]


def test_a_buffer_is_used_again_and_another_layout_gets_its_own():
    snapshots = Snapshots()
    first = snapshots.take(tensors(1.0))
    snapshots.release(first)
    again, other = snapshots.take(tensors(2.0)), snapshots.take(tensors(3.0, size=5))
    assert again is first
    assert again.tensors["a"].tolist() == [2.0] * 4
    assert other.tensors["a"].tolist() == [3.0] * 5


def test_tied_weights_stay_tied_and_views_become_contiguous():
    weight = torch.arange(6.0).view(2, 3)
    copy = Snapshots().take({"tied": weight, "head": weight, "turned": weight.T}).tensors
    assert copy["tied"] is copy["head"]
    assert copy["turned"].is_contiguous()
    assert torch.equal(copy["turned"], weight.T)
    assert copy["tied"].data_ptr() != copy["turned"].data_ptr() != weight.data_ptr()


@pytest.mark.parametrize(("most_bytes", "at_once"), [(100, 2), (10, 1)])
def test_memory_is_bounded(most_bytes, at_once):
    """A snapshot is 48 bytes: with room for two a third waits, and with room for none there is one at a time."""
    snapshots = Snapshots(most_bytes)
    taken = [snapshots.take(tensors(1.0)) for _ in range(at_once)]
    waiting = threading.Thread(target=lambda: taken.append(snapshots.take(tensors(2.0))))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    snapshots.release(taken[0])
    waiting.join()
    assert taken[-1] is taken[0]


def test_buffers_of_other_layouts_make_room():
    snapshots = Snapshots(100)
    for size in range(4, 8):
        snapshots.release(snapshots.take(tensors(1.0, size)))
        assert sum(free.size_bytes for free in snapshots._free) <= 100


def test_an_error_is_not_lost_and_does_not_end_the_writer():
    writer = Writer()
    failing, other = Pending(writer), Pending(writer)
    for pending, write in ((failing, lambda copy: 1 / 0), (other, lambda copy: None)):
        pending.submit(tensors(1.0), write, pending.reserve(tensors(1.0)))
    other.settle()
    with pytest.raises(ZeroDivisionError):
        failing.reserve(tensors(1.0))
    with pytest.raises(ZeroDivisionError):
        failing.settle()  # it stays one: the trial has failed
    assert failing.is_done
