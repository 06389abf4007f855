"""Tensors come back equal, damaged files say so, and weights that do not fit are named."""

import os
import random
import stat

import pytest
import torch
from safetensors.torch import save
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


def test_any_bit_that_changed_is_noticed(tmp_path):
    path, draw = tmp_path / "x.safetensors", random.Random(0)
    save_tensors(path, {"x": torch.arange(30.0), "half": torch.ones(5, dtype=torch.bfloat16)}, {"done": 3})
    whole = path.read_bytes()
    for _ in range(300):
        damaged, at = bytearray(whole), draw.randrange(len(whole))
        damaged[at] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"x\.safetensors (is not a whole|was changed|has a description)"):
            load_tensors(path)
    for at in range(whole.index(b"checked"), whole.index(b"checked") + len("checked")):  # then nothing names a checksum
        path.write_bytes(whole[:at] + b"z" + whole[at + 1 :])
        with pytest.raises(ValueError, match="its note has another name"):
            load_tensors(path)
    path.write_bytes(whole)
    assert load_tensors(path)[1] == {"done": 3}


def test_the_same_tensors_and_description_are_the_same_bytes(tmp_path):
    for name in "abcdefgh":
        save_tensors(tmp_path / name, {"y": torch.ones(2), "x": torch.zeros(1)}, {"a": 1, "b": None})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_files_that_this_course_wrote_before_it_had_checksums_are_read_and_a_false_one_is_not(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(save({"x": torch.ones(2)}, {"description": '{"steps": 3}'}))
    assert load_tensors(path)[1] == {"steps": 3}
    for checked in (
        '{"description": {}, "sha256": 0}',
        '{"description": {}}',
        '{"description": [], "sha256": ""}',
        "{}",
    ):
        path.write_bytes(save({"x": torch.ones(2)}, {"checked": checked}))
        with pytest.raises(ValueError, match="does not have the checksum that it names; make it again"):
            load_tensors(path)


def test_what_was_loaded_does_not_change_with_its_file(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"x": torch.ones(100_000)})
    loaded = load_tensors(path)[0]["x"]
    with open(path, "r+b") as file:  # in place, as no function of this course writes
        file.write(bytes(path.stat().st_size))
    assert loaded.sum() == 100_000


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


@pytest.mark.parametrize(
    ("begin", "kind"),
    [(b"PK\x03\x04", "zip archive"), (b"\x80\x02", "a pickle"), (b"\x89HDF\r\n", "an HDF5"), (b"GGUF", "a GGUF")],
)
def test_a_file_of_another_format_is_called_by_its_name(tmp_path, begin, kind):
    path = tmp_path / "x.safetensors"
    path.write_bytes(begin + bytes(40))
    with pytest.raises(ValueError, match=f"not a whole safetensors file, but {kind}|but a {kind}"):
        load_tensors(path)


def test_a_damaged_file_whose_length_reads_like_a_pickle_is_called_damaged(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes((128).to_bytes(8, "little") + b'{"x')
    with pytest.raises(ValueError, match=r"is not a whole safetensors file \("):
        load_tensors(path)


@pytest.mark.parametrize("description", ["[1, 2]", "A nice model", "[" * 100_000])
def test_a_description_that_is_no_object_is_refused_in_a_file_of_ours_and_left_out_in_one_of_others(
    tmp_path, description
):
    path = tmp_path / "x.safetensors"
    path.write_bytes(save({"x": torch.zeros(1)}, {"checked": description}))
    with pytest.raises(ValueError, match="description that is no JSON object"):
        load_tensors(path)
    path.write_bytes(save({"x": torch.zeros(1)}, {"description": description}))
    assert load_tensors(path)[1] == {}


def test_files_of_other_authors_need_no_description(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(save({"x": torch.ones(2)}))
    tensors, description = load_tensors(path)
    assert tensors["x"].tolist() == [1, 1] and description == {}


def test_a_folder_is_not_read_as_a_file(tmp_path):
    with pytest.raises(ValueError, match="is a folder; give the safetensors file that lies in it"):
        load_tensors(tmp_path)
