"""A GPU that is not there: host tensors are real, tensors on "cuda" are FakeTensors, every transfer is seen.

A mix-up of devices raises, as on a GPU. What would make the host wait for the GPU raises within a step, and is counted
elsewhere; so are copies from pageable memory, which wait too. `library.load()` must have run before torch was imported.
"""

import contextlib
import sys
from collections import Counter
from pathlib import Path

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = str(Path(__file__).parents[4])
aten = torch.ops.aten


class WaitedError(RuntimeError):
    """The host would have waited for the GPU in a step."""


class Traffic(TorchDispatchMode):
    """Runs what concerns host tensors alone for real, and watches what crosses between host and device.

    Attributes:
        pageable: Copies from pageable host memory, by file and line of the project.
        pinned: Number of copies from pinned memory.
        waits: Where the host would have waited for the GPU, by file and line.
        in_step: Whether to raise at once.
    """

    def __init__(self):
        super().__init__()
        self.pageable, self.waits, self.pinned, self.in_step = Counter(), Counter(), 0, False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        device = kwargs.get("device")
        target = None if device is None else torch.device(device).type
        pins = kwargs.pop("pin_memory", None)
        if target != "cuda" and not any(isinstance(leaf, FakeTensor) for leaf in leaves):
            with unset_fake_temporarily():
                return _mark(func(*args, **kwargs), pins)
        answered, answer = self._read(func, args, target)
        if answered:
            return answer
        for host in [leaf for leaf in leaves if not isinstance(leaf, FakeTensor) and leaf.dim() > 0]:
            if host.device.type != "cpu":
                continue
            if getattr(host, "is_marked_pinned", False):
                self.pinned += 1
            else:
                self.pageable[place()] += 1
        if func is aten._to_copy.default and not isinstance(args[0], FakeTensor):
            # FakeTensor would remember a real tensor's numbers, and copy them to the device that isn't there.
            dtype = kwargs.get("dtype") or args[0].dtype
            return aten.empty.memory_format(args[0].shape, dtype=dtype, device=device)
        return func(*args, **kwargs)

    def _read(self, func, args, target):
        """Whether this brings a device's numbers to the host, and the numbers: ones, or yes."""
        if func in (aten._local_scalar_dense.default, aten.equal.default):
            self._wait()
            return True, {True: True, False: 1}[func is aten.equal.default or args[0].dtype is torch.bool]
        if func is aten._to_copy.default and target == "cpu":
            self._wait()
            with unset_fake_temporarily():
                return True, torch.ones(args[0].shape, dtype=args[0].dtype)
        if func is aten.copy_.default and not isinstance(args[0], FakeTensor):
            if not (getattr(args[0], "is_marked_pinned", False) and len(args) > 2 and args[2]):
                self._wait()
            return True, args[0]
        if func in (aten.nonzero.default, aten.bincount.default, aten.masked_select.default):
            self._wait()  # a result of unknown size, where FakeTensor only sometimes says so
        return False, None

    def _wait(self):
        if self.in_step:
            raise WaitedError(f"the host would wait for the GPU at {place()}")
        self.waits[place()] += 1


def place():
    """File and line of the project's innermost frame."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(f"{ROOT}/trainables/"):
            return f"{name.removeprefix(ROOT + '/')}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside the project"


@contextlib.contextmanager
def fake_gpu():
    """Context with one CUDA device; yields its `Traffic`."""
    traffic = Traffic()
    with contextlib.ExitStack() as stack:
        for owner, name, value in _replacements(traffic):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(traffic)
        yield traffic


def _replacements(traffic):
    class OnlyStream:
        device = torch.device("cuda:0")

        def __init__(self, *_, **__):
            pass

        def synchronize(self):
            traffic._wait()

        def wait_stream(self, _):
            pass

        wait_event = wait_stream

        def record_event(self, _=None):
            return Event()

        def is_capturing(self):
            return False

    class Event(OnlyStream):
        def record(self, _=None):
            pass

        wait = record

    yield torch.cuda, "is_available", lambda: True
    yield torch.cuda, "is_bf16_supported", lambda including_emulation=True: True
    yield torch.cuda, "get_device_capability", lambda device=None: (9, 0)
    yield torch.cuda, "current_stream", lambda device=None: OnlyStream()
    yield torch.accelerator, "current_stream", lambda device=None: OnlyStream()
    yield torch.cuda, "Stream", OnlyStream
    yield torch.cuda, "Event", Event
    yield torch.cuda, "stream", lambda stream: contextlib.nullcontext()
    yield torch.cuda, "current_device", lambda: 0
    yield torch.cuda, "empty_cache", lambda: None
    yield torch.cuda, "mem_get_info", lambda device=None: (2**36, 2**36)
    yield torch.cuda.amp.common, "amp_definitely_not_available", lambda: False
    yield torch.Tensor, "pin_memory", lambda self, *_: _mark(self.clone(), pins=True)
    yield torch, "tensor", _tensor(torch.tensor)
    yield torch.Tensor, "data_ptr", _data_ptr(torch.Tensor.data_ptr)
    yield FakeTensor, "tolist", lambda self: self.cpu().tolist()  # its own asks for one number after another
    yield nn.Module, "_apply", _apply


def _tensor(own):
    def made(data, *, device=None, **more):
        return own(data, **more) if device is None else own(data, **more).to(device)

    return made


def _data_ptr(own):
    def of(tensor):
        if not isinstance(tensor, FakeTensor):
            return own(tensor)
        return tensor.untyped_storage()._cdata + tensor.storage_offset()

    return of


def _mark(tensor, pins):
    if pins:
        tensor.is_marked_pinned = True
    return tensor


def _apply(self, fn, recurse=True):
    """`nn.Module._apply` that replaces parameters: fake ones can't be swapped. Tied ones stay tied."""
    made = {}
    for module in self.modules() if recurse else [self]:
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if parameter not in made:
                    with torch.no_grad():
                        made[parameter] = nn.Parameter(fn(parameter).detach(), parameter.requires_grad)
                module._parameters[name] = made[parameter]
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else fn(buffer)
    return self
