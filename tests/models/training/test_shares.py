"""Law 5 of models/training/experts.py, and that of shares.py: experts, gates and the residual keep what held-out recordings bear out."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from models.fusion.gated import Gated
from models.fusion.windows import MODALITIES, Stream, Windows
from models.training.data import Data, widths_of
from models.training.shares import keep
from models.training.train import train_experts
from tests.models.training.builders import CLASSES, IN_GROUP, TOLD, WIDTH, data, quick

LONG = quick(epochs=25, patience=25)
HEARD = [name for name, told in zip(CLASSES, TOLD["audio"], strict=True) if told]


def world(seed: int, *, noise: float, at: int) -> Data:
    """Sound whose verdict is `noise` off, and whose other numbers tell the class from column `at` on, or else the recording alone.

    A recording has one label throughout: whoever knows it by heart knows the label.
    """
    random = Generator().manual_seed(seed)
    made = data(seed, absent=0.0, verdicts=len(CLASSES))
    truth_BC = made.truth_BC[made.group_B * IN_GROUP]
    voice_GD = 3.0 * torch.randn(len(truth_BC) // IN_GROUP, WIDTH["audio"], generator=random)
    tokens_BTD = voice_GD[made.group_B][:, None].repeat(1, made.windows.audio.mask_BT.shape[1], 1)
    told_B1C = ((2.0 * truth_BC - 1.0) * torch.tensor(TOLD["audio"]))[:, None]
    shape = (*tokens_BTD.shape[:2], len(CLASSES))
    tokens_BTD[:, :, : len(CLASSES)] = told_B1C + noise * torch.randn(shape, generator=random)
    tokens_BTD[:, :, at : at + len(CLASSES)] = told_B1C + 0.3 * torch.randn(shape, generator=random)
    audio = Stream.of(tokens_BTD, made.windows.audio.mask_BT, made.windows.audio.quality_BQ)
    windows = Windows(frames=made.windows.frames, audio=audio, transcripts=made.windows.transcripts)
    return replace(made, windows=windows, truth_BC=truth_BC)


def kept(noise: float, at: int, calibration: Data | None = None) -> dict[str, float]:
    """By class that sound tells: how far its expert's last layer is from zeros."""
    train, validation, own = (world(seed, noise=noise, at=at) for seed in (1, 2, 3))
    state = train_experts(train, validation, calibration or own, LONG, seed=0).state
    return {name: float(state["experts.audio.classify.3.weight"][CLASSES.index(name)].abs().sum()) for name in HEARD}


def test_a_verdict_that_is_right_is_left_alone_however_well_recordings_are_known_by_heart() -> None:
    assert kept(noise=0.3, at=0) == dict.fromkeys(HEARD, 0.0)


def test_what_tells_the_class_on_other_recordings_too_is_kept() -> None:
    assert all(found > 0.0 for found in kept(noise=5.0, at=len(CLASSES)).values())


def test_what_the_calibration_split_denies_counts_as_much_as_what_another_split_says() -> None:
    """There the verdict is right, and what the correction reads is the recording alone: less is kept than where all splits agree."""
    agreed, denied = kept(noise=1.0, at=len(CLASSES)), kept(noise=1.0, at=len(CLASSES), calibration=world(3, noise=0.1, at=0))
    assert all(denied[name] < agreed[name] for name in HEARD)


JOINT = 2  # of CLASSES: here that person is there and scream is not


class Heard(Gated):
    """Experts whose log-odds are given: a window's first token."""

    def condense(self, windows: Windows) -> Windows:
        return windows


def learned() -> Heard:
    """Gates that trust pictures of "person" where quality says 1 and sound where it says 0; a residual that knows what decides JOINT."""
    model = Heard(widths_of(opinions(0), 16))
    with torch.no_grad():
        for sign, name in ((1.0, "frames"), (-1.0, "audio")):
            hidden, *_, last = model.gates.quality[name].children()
            hidden.weight[0, 0], hidden.bias[0] = 9.0, -4.5
            hidden.weight[1, 0], hidden.bias[1] = -9.0, 4.5
            last.weight[0, :2] = sign * torch.tensor([2.0, -2.0])
        model.residual.there_MCC[0, JOINT, 0] = model.residual.not_there_MCC[1, JOINT, 1] = 1.0
        model.residual.there_MCC[2, 1, 0] = 3.0
    return model


def opinions(seed: int, *, right: bool = True, decided: bool = True) -> Data:
    """What experts say: of "person" pictures and sound, one of them noise. `right`: quality says which; else it says the other.

    `decided`: JOINT is what pictures say of "person" and sound denies of "scream"; else it is by chance.
    """
    random, size = Generator().manual_seed(seed), 600
    truth_BC = torch.rand(size, len(CLASSES), generator=random) < 0.4
    truth_BC[:, JOINT] = truth_BC[:, 0] & ~truth_BC[:, 1] if decided else torch.rand(size, generator=random) < 0.3
    said_BMC = 4.0 * (2.0 * truth_BC[:, None] - 1.0) + torch.randn(size, 3, len(CLASSES), generator=random)
    said_BMC[:, :, JOINT] = 0.1 * torch.randn(size, 3, generator=random)
    clear_B = torch.rand(size, generator=random) < 0.5
    for m, noise_B in ((0, ~clear_B), (1, clear_B)):
        said_BMC[noise_B, m, 0] = 4.0 * torch.randn(int(noise_B.sum()), generator=random)
    mask_BMT = torch.tensor([True, True, False]).expand(size, -1)[:, :, None]
    quality_B1 = (clear_B == right).float()[:, None]
    made = data(seed, size=size)
    return replace(made, truth_BC=truth_BC, windows=Windows(**{
        name: Stream.of(said_BMC[:, m, None], mask_BMT[:, m], quality_B1) for m, name in enumerate(MODALITIES)
    }))  # fmt: skip


def weights(model: Gated) -> tuple[Tensor, Tensor]:
    """What gates learned of "person", and what the residual learned of JOINT."""
    return model.gates.quality["frames"][-1].weight[0].detach(), model.residual.there_MCC[:, JOINT].detach()


def kept_of(*held: Data) -> tuple[float, float]:
    """Of what gates and residual learned."""
    before = learned()
    after = keep(deepcopy(before), held, (0.0, 0.5, 1.0))
    gates, residual = (float(one.abs().sum() / other.abs().sum()) for one, other in zip(weights(after), weights(before), strict=True))
    return gates, residual


@pytest.mark.parametrize(("right", "decided"), [(True, True), (True, False), (False, True), (False, False)])
def test_gates_and_residual_keep_what_held_out_recordings_bear_out(right: bool, decided: bool) -> None:
    gates, residual = kept_of(*(opinions(seed, right=right, decided=decided) for seed in (1, 2)))
    assert (gates > 0, residual > 0) == (right, decided)


def test_every_split_counts_in_what_gates_keep() -> None:
    borne_out, denied = opinions(1), opinions(2, right=False)
    assert kept_of(borne_out)[0] > 0.0
    assert kept_of(borne_out, denied, denied)[0] == kept_of(denied, denied, borne_out)[0] == 0.0


def test_of_equals_the_smallest_is_kept_and_nothing_else_moves() -> None:
    before = learned()
    with torch.no_grad():
        before.growth_C.fill_(0.3)
    after = keep(deepcopy(before), [opinions(1), opinions(2)], (0.0, 0.5, 1.0))
    assert not after.residual.there_MCC[2, 1].any() and before.residual.there_MCC[2, 1, 0] == 3.0  # words, which nobody said
    assert torch.equal(after.growth_C, before.growth_C)
    assert all(torch.equal(one, before.experts.state_dict()[name]) for name, one in after.experts.state_dict().items())
