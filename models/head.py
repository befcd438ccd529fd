"""A fusion head: how inputs are scaled, the method, its calibration and where it came from; in one file.

Laws:
1. Scaling travels with the weights. It is fitted on tokens that are there; what a mask leaves out stays zeros.
2. `load` of `save` gives the same logits and probabilities, to the bit; the same head gives the same bytes.
3. A file is bounded before it is read, and nothing is allocated by what it claims before its shapes agree with what it holds.
4. What is not a head is a ValueError that names the place: unknown method, version, keys, shapes, numbers that are not finite.

Shape key: as in models/fusion/windows.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from models.calibration import Calibration
from models.fusion.gated import Gated
from models.fusion.methods import METHODS
from models.fusion.windows import MODALITIES, Stream, Widths, Windows

VERSION = 2
"""Of the file."""
KEY = "streamer.head"
"""The one name in the file's metadata; its value is JSON."""
MOST_BYTES = 64 << 20
"""No head is larger."""
WIDEST = 1 << 16
"""No width is greater."""
FARTHEST = 10.0
"""In scaled inputs: what lies further from the mean counts as this far."""
CONSTANT = 1e-6
"""A dimension that spreads less than this is left unscaled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a head is and where it came from. `encoders`: their fingerprint; `recipe`: the digest of how it was trained."""

    method: str
    widths: Widths
    classes: tuple[str, ...]
    encoders: str
    seed: int
    recipe: str

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} must be one of {', '.join(METHODS)}")
        if len(self.classes) != self.widths.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes {list(self.classes)} must be {self.widths.classes}, each once")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {**asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, data: object) -> About:
        """The inverse of `to_dict`. ValueError says what is missing or wrong."""
        record = _record(data, {each.name for each in fields(cls)}, "about")
        sizes = _record(record["widths"], {each.name for each in fields(Widths)}, "about.widths")
        for name in ("tokens", "quality"):
            sizes[name] = {each: _size(value, f"{name}.{each}") for each, value in _record(sizes[name], set(MODALITIES), name).items()}
        for name in ("classes", "model"):
            _size(sizes[name], name)
        if _size(sizes["verdicts"] + 1 if isinstance(sizes["verdicts"], int) else None, "verdicts") > sizes["classes"] + 1:
            raise ValueError(f"about.widths: verdicts={sizes['verdicts']} must not be more than classes={sizes['classes']}")
        for name in ("method", "encoders", "recipe"):
            if not isinstance(record[name], str):
                raise ValueError(f"about.{name}={record[name]!r} must be text")
        if not isinstance(record["classes"], list) or not all(isinstance(each, str) for each in record["classes"]):
            raise ValueError("about.classes must be a list of names")
        if isinstance(record["seed"], bool) or not isinstance(record["seed"], int):
            raise ValueError(f"about.seed={record['seed']!r} must be a whole number")
        return cls(**{**record, "widths": Widths(**sizes), "classes": tuple(record["classes"])})


class Standard(nn.Module):
    """Every dimension of tokens and of quality features, by modality, to mean 0 and scale 1."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        for name in MODALITIES:
            for kind, width in (("tokens", widths.tokens[name]), ("quality", widths.quality[name])):
                self.register_buffer(f"{name}_{kind}_mean_D", torch.zeros(width))
                self.register_buffer(f"{name}_{kind}_scale_D", torch.ones(width))

    def fit(self, windows: Windows) -> Standard:
        """To these windows; a modality that none of them has stays unscaled."""
        for name, stream in windows.streams():
            self._fit(f"{name}_tokens", stream.tokens_BTD[stream.mask_BT])
            self._fit(f"{name}_quality", stream.quality_BQ[stream.present_B])
        return self

    def _fit(self, key: str, values_ND: Tensor) -> None:
        if len(values_ND):
            spread_D = values_ND.double().std(0, correction=0)
            getattr(self, f"{key}_mean_D").copy_(values_ND.double().mean(0))
            getattr(self, f"{key}_scale_D").copy_(torch.where(spread_D > CONSTANT, spread_D, 1.0))

    def forward(self, windows: Windows) -> Windows:
        """The same windows, scaled."""
        return Windows(**{name: self._scaled(name, stream) for name, stream in windows.streams()})

    def _scaled(self, name: str, stream: Stream) -> Stream:
        def scaled(kind: str, values: Tensor) -> Tensor:
            mean_D, scale_D = (getattr(self, f"{name}_{kind}_{what}_D") for what in ("mean", "scale"))
            near: Tensor = ((values - mean_D) / scale_D).clamp(-FARTHEST, FARTHEST)
            return near

        return Stream.of(scaled("tokens", stream.tokens_BTD), stream.mask_BT, scaled("quality", stream.quality_BQ))


class FusionHead(nn.Module):
    """windows -> scaled -> method -> logits -> calibrated. Made to be used: whoever trains it asks for gradients, and stops."""

    def __init__(self, about: About, calibration: Calibration | None = None) -> None:
        super().__init__()
        self.about = about
        self.standard = Standard(about.widths)
        self.method = METHODS[about.method](about.widths)
        self.calibration = calibration
        self.eval().requires_grad_(False)  # torch multiplies in another order where a gradient is asked for: other last bits

    def forward(self, windows: Windows) -> Tensor:
        """(B, C) logits."""
        logits_BC: Tensor = self.method(self.standard(windows))
        return logits_BC

    @torch.no_grad()
    def logits(self, windows: Windows) -> Tensor:
        """(B, C), without gradients. ValueError where the windows are not as wide as this head."""
        self._check(windows)
        logits_BC: Tensor = self(windows)
        return logits_BC

    @torch.no_grad()
    def read(self, windows: Windows) -> tuple[Callable[[Windows], Tensor], Windows]:
        """For whoever asks for many subsets of the same modalities: a function and windows that give the same logits, for less work.

        ValueError where the windows are not as wide as this head.
        """
        self._check(windows)
        if not isinstance(self.method, Gated):
            return self, windows
        return self.method.condensed, self.method.condense(self.standard(windows))

    @torch.no_grad()
    def read_tokens(self, windows: Windows) -> tuple[Callable[[Windows], Tensor], Windows]:
        """As `read`, for whoever asks for many subsets of the same tokens."""
        self._check(windows)
        if not isinstance(self.method, Gated):
            return self, windows
        return self.method.weigh, self.method.experts.read(self.standard(windows))

    def _check(self, windows: Windows) -> None:
        for name, stream in windows.streams():
            found, wanted = (
                (stream.tokens_BTD.shape[2], stream.quality_BQ.shape[1]),
                (self.about.widths.tokens[name], self.about.widths.quality[name]),
            )
            if found != wanted:
                raise ValueError(f"{name}: tokens and quality are {found} wide, this head's {wanted}")

    def probabilities(self, windows: Windows) -> Tensor:
        """(B, C) in float64. ValueError without a calibration."""
        if self.calibration is None:
            raise ValueError("this head is not calibrated")
        return self.calibration.apply(self.logits(windows), windows.present_BM)

    def save(self, path: Path) -> None:
        """One file, whole or not at all. ValueError without a calibration."""
        if self.calibration is None:
            raise ValueError("this head is not calibrated")
        about = {"version": VERSION, "about": self.about.to_dict(), "calibration": self.calibration.to_dict()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        write(path, tensors, {KEY: json.dumps(about, sort_keys=True, allow_nan=False)})

    @classmethod
    def load(cls, path: Path) -> FusionHead:
        """The head of a file. ValueError where it is none; OSError where it cannot be read."""
        tensors, metadata = read(path, MOST_BYTES)
        try:
            return cls._made(tensors, metadata)
        except ValueError as exc:
            raise ValueError(f"{path}: {exc}") from exc

    @classmethod
    def _made(cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> FusionHead:
        record = _json(metadata.get(KEY, ""))
        if record.get("version") != VERSION:
            raise ValueError(f"version {record.get('version')!r} is not {VERSION}: the file is of another release")
        _record(record, {"version", "about", "calibration"}, KEY)
        calibration = Calibration.from_dict(record["calibration"])
        about = About.from_dict(record["about"])
        if tuple(each.name for each in calibration.classes) != about.classes:
            raise ValueError(f"the calibration's classes are not the head's {list(about.classes)}")
        with torch.device("meta"):
            head = cls(about, calibration)
        _agree(head.state_dict(), tensors)
        head.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, assign=True)
        return head


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A file of safetensors: beside its place, then renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(write_tensors(dict(tensors), dict(metadata)))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read(path: Path, most: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file of at most that many bytes. ValueError where it is longer or no such file."""
    with path.open("rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path} has more than {most} bytes")
    try:
        tensors = read_tensors(data)
    except SafetensorError as exc:
        raise ValueError(f"{path} is no safetensors file: {exc}") from exc
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # well formed: it was read just now
    return tensors, header.get("__metadata__", {})


def _agree(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    if set(found) != set(wanted):
        raise ValueError(f"tensors missing: {sorted(set(wanted) - set(found))}, unknown: {sorted(set(found) - set(wanted))}")
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape or tensor.dtype != wanted[name].dtype:
            kinds = f"{tuple(tensor.shape)} {tensor.dtype}, must be {tuple(wanted[name].shape)} {wanted[name].dtype}"
            raise ValueError(f"tensor {name} is {kinds}")
        if not tensor.isfinite().all():
            raise ValueError(f"tensor {name} holds numbers that are not finite")


def _json(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as exc:
        raise ValueError(f"no head: metadata {KEY!r} is missing or no JSON") from exc
    if not isinstance(data, dict):
        raise ValueError(f"no head: metadata {KEY!r} is no object")
    return data


def _record(data: object, wanted: set[str], where: str) -> dict[str, Any]:
    if not isinstance(data, Mapping) or set(data) != wanted:
        found = sorted(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
        raise ValueError(f"{where}: expected an object with {sorted(wanted)}, found {found}")
    return dict(data)


def _size(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= WIDEST:
        raise ValueError(f"about.widths: {name}={value!r} must be in 1..{WIDEST}")
    return value
