"""The tiny model and its data, made once; a test that changes weights loads its own base with `load_tiny`."""

from functools import cache

import pytest

from tests.unit.trainables.training.helpers import load_tiny, tokenized
from trainables.config.sections import ModelConfig
from trainables.models.base_model import load_tokenizer, resolve_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Folder of the tiny Llama; read only."""
    return resolve_model(ModelConfig(name="random:tiny-llama"), tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tokenizer(tiny):
    return load_tokenizer(tiny)


@pytest.fixture(scope="session")
def samples(tokenizer, tmp_path_factory):
    """Makes a set of so many tokenized sums; memory-mapped and read only."""
    folder = tmp_path_factory.mktemp("samples")
    return cache(lambda count, seed=0: tokenized(folder, tokenizer, count, seed))


@pytest.fixture(scope="session")
def data(samples):
    return samples(43)


@pytest.fixture
def base(tiny):
    """A LoRA base in fp32 of the test's own: loading takes some 30 ms."""
    return load_tiny(tiny)
