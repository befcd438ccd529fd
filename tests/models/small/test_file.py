"""Laws of models/small/file.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.head import read, write
from models.small import picture, sound, text
from models.small.file import KEY, MOST_BYTES, load, save
from models.small.train import KINDS
from tests.models.small.builders import events, network

Record = dict[str, Any]
Tensors = dict[str, Tensor]


@pytest.mark.parametrize("architecture", KINDS)
def test_an_encoder_that_was_saved_comes_back_with_its_preprocessing(architecture: str, tmp_path: Path) -> None:
    made, about = network(architecture)
    path = tmp_path / "small.safetensors"
    save(path, made, about)
    before = torch.random.get_rng_state()
    found, read_about = load(path, KINDS[architecture].networks)
    assert read_about == about and not found.training and torch.equal(torch.random.get_rng_state(), before)
    for one, other in zip(found.say(events(architecture)), made.say(events(architecture)), strict=True):
        assert (one == other).all()
    save(tmp_path / "again.safetensors", found, read_about)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["again.safetensors", path.name]
    buffers = {name for name, _ in made.named_buffers()}
    assert buffers <= set(read(path, MOST_BYTES)[0])
    if not architecture.startswith("text"):
        assert {"standard.mean_D", "standard.scale_D"} <= buffers


def test_each_encoder_loads_its_own_kind_alone(tmp_path: Path) -> None:
    kinds: dict[str, Any] = {"sound-cnn": sound.SmallSounds, "picture-vit": picture.SmallPictures, "text-gru": text.SmallTexts}
    for architecture in kinds:
        made, about = network(architecture)
        save(tmp_path / architecture, made, about)
    for mine, kind in kinds.items():
        assert len(kind.load(tmp_path / mine)(events(mine))) == 8
        for other in set(kinds) - {mine}:
            with pytest.raises(ValueError, match=f"'{other}' must be one of"):
                kind.load(tmp_path / other)


def set_to(name: str, value: object) -> Callable[[Record, Tensors], None]:
    return lambda record, tensors: record.update({name: value})


def tensor(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Record, Tensors], None]:
    return lambda record, tensors: tensors.update({name: change(tensors[name])})


BAD = (
    (set_to("version", 2), "version 2 is not 1"),
    (set_to("architecture", "guess"), "'guess' must be one of sound-cnn"),
    (set_to("architecture", 3), "Expected `str`"),
    (set_to("width", 4_096), "width=4096 must be in 32..128"),
    (set_to("width", 33), "width=33"),
    (set_to("classes", []), "security classes"),
    (set_to("classes", ["siren"] * 6), "each once"),
    (set_to("classes", ["kitten"]), "security classes"),
    (set_to("classes", ["siren"]), "size mismatch"),
    (set_to("more", 1), "unknown field"),
    (lambda record, tensors: record.pop("seed"), "required field `seed`"),
    (tensor("classifier.bias", lambda bias: bias * float("nan")), "not finite"),
    (tensor("classifier.bias", Tensor.double), "another type"),
    (tensor("standard.mean_D", lambda mean: mean[:-1]), "size mismatch"),
    (lambda record, tensors: tensors.pop("standard.mean_D"), "Missing key"),
    (lambda record, tensors: tensors.update(more=torch.zeros(1)), "Unexpected key"),
)


@pytest.mark.parametrize(("change", "says"), BAD)
def test_what_is_no_small_encoder_is_a_value_error(change: Callable[[Record, Tensors], None], says: str, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save(path, *network("sound-cnn"))
    tensors, metadata = read(path, MOST_BYTES)
    record = json.loads(metadata[KEY])
    change(record, tensors)
    write(path, tensors, {KEY: json.dumps(record)})
    with pytest.raises(ValueError, match=f"(?s){path.name} holds no small encoder.*{says}"):
        load(path, sound.NETWORKS)


def test_a_broken_file_is_a_value_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small.safetensors"
    save(path, *network("sound-cnn"))
    whole = path.read_bytes()
    for broken in (b"", whole[:1_000], whole[:-1], b"\xff" * 64, whole.replace(b"sound-cnn", b"sound-cnm")):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=path.name):
            load(path, sound.NETWORKS)
    write(path, {"classifier.bias": torch.zeros(6)}, {})
    with pytest.raises(ValueError, match="no small encoder"):
        load(path, sound.NETWORKS)
    path.write_bytes(whole)
    monkeypatch.setattr("models.small.file.MOST_BYTES", 1_000)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        load(path, sound.NETWORKS)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none", sound.NETWORKS)
