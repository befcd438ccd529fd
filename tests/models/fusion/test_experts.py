"""Laws of models/fusion/experts.py and of the two methods that have nothing else."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from models.fusion.experts import Expert, Experts
from models.fusion.log_odds import LogOdds
from models.fusion.windows import MODALITIES, Stream, Windows
from tests.models.fusion.builders import PATTERNS, WIDTHS, shaken, windows_of

ALL = PATTERNS[-1:].repeat(4, 1)


def experts() -> Experts:
    torch.manual_seed(0)
    return shaken(Experts(WIDTHS))


def test_an_expert_reads_its_own_modality_alone() -> None:
    made, windows, other = experts(), windows_of(ALL), windows_of(ALL, seed=1)
    for at, name in enumerate(MODALITIES):
        mixed = Windows(**{each: stream if each == name else getattr(other, each) for each, stream in windows.streams()})
        assert torch.equal(made(mixed).logits_BMC[:, at], made(windows).logits_BMC[:, at])


def test_an_expert_reads_the_quality_of_its_own_modality_alone() -> None:
    made, windows = experts(), windows_of(ALL)
    before_BMC = made(windows).logits_BMC
    for at, name in enumerate(MODALITIES):
        stream = dict(windows.streams())[name]
        other = Stream.of(stream.tokens_BTD, stream.mask_BT, stream.quality_BQ + 1.0)
        mixed = Windows(**{each: other if each == name else one for each, one in windows.streams()})
        assert (made(mixed).logits_BMC != before_BMC).any(0).any(1).tolist() == [m == at for m in range(len(MODALITIES))]


def test_an_expert_of_what_is_no_modality_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'smell' must be one of frames, audio"):
        Expert("smell", WIDTHS)


def test_a_voice_is_where_a_modality_is_present_and_can_speak() -> None:
    made = experts()
    made.speaks_MC[1] = torch.tensor([True, False, True])
    opinions = made(windows_of(PATTERNS))
    assert torch.equal(opinions.voices_BMC, PATTERNS[:, :, None] & made.speaks_MC)
    assert torch.equal(opinions.logits_BMC == made.prior_C, ~opinions.voices_BMC)


def test_calibration_is_a_line_by_modality_and_class_and_no_parameter() -> None:
    made, windows = experts(), windows_of(ALL)
    raw_BMC = made(windows).logits_BMC
    made.scale_MC.copy_(torch.arange(9.0).reshape(3, 3))
    made.bias_MC.fill_(0.5)
    assert torch.allclose(made(windows).logits_BMC, raw_BMC * torch.arange(9.0).reshape(3, 3) + 0.5)
    assert {"scale_MC", "bias_MC", "speaks_MC"} <= made.state_dict().keys() - dict(made.named_parameters()).keys()


@pytest.mark.parametrize("total", [False, True])
def test_log_odds_are_the_mean_or_the_sum_relative_to_the_prior(total: bool) -> None:
    torch.manual_seed(0)
    method, windows = shaken(LogOdds(WIDTHS, total=total)), windows_of(PATTERNS)
    opinions, prior_C = method.experts(windows), method.experts.prior_C
    for at, pattern in enumerate(PATTERNS):
        said = opinions.logits_BMC[at][pattern] - prior_C
        expected = prior_C + (said.sum(0) if total or not len(said) else said.mean(0))
        assert torch.allclose(method(windows)[at], expected, atol=1e-6)


@pytest.mark.parametrize("total", [False, True])
def test_one_voice_is_pooled_to_the_bit(total: bool) -> None:
    torch.manual_seed(0)
    method, single = shaken(LogOdds(WIDTHS, total=total)), torch.eye(3, dtype=torch.bool)
    windows = windows_of(single)
    assert torch.equal(method(windows), method.experts(windows).logits_BMC[single])


def test_a_share_of_nothing_is_the_encoders_verdict_and_shares_between_are_on_the_line() -> None:
    stream = windows_of(ALL).audio
    verdict_BC = stream.tokens_BTD[:, :, :3].masked_fill(~stream.mask_BT[:, :, None], -torch.inf).amax(1)
    torch.manual_seed(0)
    made = shaken(Expert("audio", replace(WIDTHS, verdicts=3)))
    whole_BC = made(stream)
    quarter_BC = deepcopy(made).shrink(torch.full((3,), 0.25))(stream)
    torch.testing.assert_close(deepcopy(made).shrink(torch.zeros(3))(stream), verdict_BC)
    torch.testing.assert_close(quarter_BC, verdict_BC + 0.25 * (whole_BC - verdict_BC))
    assert torch.equal(deepcopy(made).shrink(torch.ones(3))(stream), whole_BC)
    one_BC = deepcopy(made).shrink(torch.tensor([1.0, 0.0, 1.0]))(stream)
    torch.testing.assert_close(one_BC, torch.stack([whole_BC[:, 0], verdict_BC[:, 1], whole_BC[:, 2]], dim=1))
    plain = shaken(Expert("audio", WIDTHS))
    assert torch.equal(deepcopy(plain).shrink(torch.zeros(3))(stream), plain(stream))
