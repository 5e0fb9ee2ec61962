import pytest
import torch
from safetensors.torch import save_file

from trainables.models.safetensors_files import stored_type


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([[torch.bfloat16]], "BF16"),
        ([[torch.float32, torch.int64]], "F32"),  # a table of places is no weight
        ([[torch.float16], [torch.float16, torch.bool]], "F16"),
        ([[torch.bfloat16, torch.float32]], None),
        ([[torch.bfloat16], [torch.float32]], None),
        ([[torch.int8]], None),
    ],
)
def test_the_one_type_of_the_weights(tmp_path, files, expected):
    for number, types in enumerate(files):
        tensors = {f"w{place}": torch.ones(2).to(kind) for place, kind in enumerate(types)}
        save_file(tensors, tmp_path / f"model-{number}.safetensors")
    assert stored_type(tmp_path) == expected
