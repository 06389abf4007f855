"""Tensors come back equal, damaged files say so, and weights that do not fit are named."""

import os
import stat

import pytest
import torch
from torch import nn

from llmcourse.weights import load_tensors, load_weights, save_tensors


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has these permissions")
def test_others_may_read_what_is_written(tmp_path):
    save_tensors(tmp_path / "file.safetensors", {"x": torch.zeros(1)})
    assert stat.S_IMODE((tmp_path / "file.safetensors").stat().st_mode) == 0o644


def test_tensors_come_back_equal_with_their_description(tmp_path):
    shared = torch.arange(6.0).view(2, 3)
    tensors = {
        "matrix": shared,
        "the same matrix": shared,
        "a view across": shared.T,
        "whole numbers": torch.tensor([1, -(2**40)]),
        "bytes": torch.tensor([0, 255], dtype=torch.uint8),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "one": torch.tensor(3.0),
        "none": torch.zeros(0, 4),
        "learned": nn.Parameter(torch.ones(2)),
    }
    save_tensors(tmp_path / "x.safetensors", tensors, {"steps": 3, "name": "从前", "betas": [0.9, None]})
    loaded, description = load_tensors(tmp_path / "x.safetensors")
    assert description == {"steps": 3, "name": "从前", "betas": [0.9, None]}
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor.detach())


def test_what_was_loaded_outlives_its_file(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"x": torch.ones(1000)})
    loaded, description = load_tensors(path)
    save_tensors(path, {"x": torch.zeros(1000)})
    assert loaded["x"].sum() == 1000
    assert description == {}


def test_a_damaged_file_of_tensors_says_so(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"x": torch.ones(10)})
    whole = path.read_bytes()
    for damaged in (b"", b"not tensors at all", whole[:4], whole[:30], whole[:-1], whole + b"0", b"\xff" * 40):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"x\.safetensors is not a whole safetensors file"):
            load_tensors(path)


def test_every_weight_that_does_not_fit_is_named():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    weights = {**model.state_dict(), "2.weight": torch.zeros(1), "0.bias": torch.zeros(4)}
    del weights["1.bias"]
    before = model[1].weight.clone()
    weights["1.weight"] = torch.zeros(1, 3)
    with pytest.raises(ValueError, match="another model") as error:
        load_weights(model, weights, "some.safetensors")
    assert str(error.value) == (
        "some.safetensors holds another model: "
        "0.bias has shape (4,) instead of (3,); missing 1.bias; unexpected 2.weight"
    )
    assert torch.equal(model[1].weight, before)
