"""A small encoder as one file of safetensors: its weights, what it was scaled by, and where it came from.

Laws:
1. `load` of `save` gives the same logits and embeddings; the same encoder gives the same bytes.
2. A file is bounded before it is read, and no network is made that is larger than its bounds allow.
3. What is no small encoder is a ValueError that names the file: unknown architecture, version, classes, shapes, numbers that are not
   finite. Nothing in a file is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import msgspec
import torch

from models.classes import CLASSES
from models.head import read, write
from models.small.parts import Network, Networks

VERSION = 1
"""Of the file, and of all code that prepares an event: whoever changes that raises it."""
KEY = "streamer.small"
"""The one name in the file's metadata; its value is JSON."""
MOST_BYTES = 16 << 20
"""No small encoder is larger."""
WIDTHS = range(32, 129, 8)


class About(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an encoder is. `recipe` and `data`: digests of how and from what it was trained; `classes`: of its logits, in order."""

    architecture: str
    classes: tuple[str, ...]
    width: int
    seed: int
    recipe: str
    data: str
    version: int = VERSION

    def make(self, networks: Networks) -> Network:
        """The network, with whatever weights torch's generator gives. ValueError where this is none of those networks."""
        if self.version != VERSION:
            raise ValueError(f"version {self.version} is not {VERSION}: the file is of another release")
        if self.architecture not in networks:
            raise ValueError(f"architecture {self.architecture!r} must be one of {', '.join(networks)}")
        if not self.classes or len(set(self.classes)) < len(self.classes) or not set(self.classes) <= set(CLASSES):
            raise ValueError(f"classes {list(self.classes)} must be security classes, one at least, each once")
        if self.width not in WIDTHS:
            raise ValueError(f"width={self.width} must be in {WIDTHS.start}..{WIDTHS[-1]}, a multiple of {WIDTHS.step}")
        return networks[self.architecture](len(self.classes), self.width)


def save(path: Path, network: Network, about: About) -> None:
    """One file, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write(path, tensors, {KEY: msgspec.json.encode(about, order="deterministic").decode()})


def load(path: Path, networks: Networks) -> tuple[Network, About]:
    """A network of one of those architectures, ready to be used. ValueError where it is none; OSError where it cannot be read."""
    tensors, metadata = read(path, MOST_BYTES)
    try:
        about = msgspec.json.decode(metadata.get(KEY, ""), type=About)
        with torch.random.fork_rng(devices=[]):
            network = about.make(networks)
        wanted = network.state_dict()
        wrong = [name for name, one in tensors.items() if name in wanted and one.dtype != wanted[name].dtype]
        if wrong := wrong or [name for name, one in tensors.items() if not one.isfinite().all()]:
            raise ValueError(f"tensors of another type, or with numbers that are not finite: {sorted(wrong)}")
        network.load_state_dict(tensors)
    except (msgspec.DecodeError, RuntimeError, ValueError) as exc:
        raise ValueError(f"{path} holds no small encoder of {', '.join(networks)}: {exc}") from exc
    return network.eval().requires_grad_(False), about


class Small:
    """A small encoder, ready to be used; what it makes of events is its kind's. `networks`: the architectures of that kind."""

    networks: ClassVar[Networks]

    def __init__(self, network: Network, classes: Sequence[str], *, device: str = "cpu") -> None:
        self.network = network.to(device)
        self.classes = tuple(classes)

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu") -> Self:
        """ValueError where the file holds none; OSError where it cannot be read."""
        network, about = load(path, cls.networks)
        return cls(network, about.classes, device=device)
