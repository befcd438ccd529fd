"""Laws of models/fusion/gated.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.fusion.gated import Gated
from models.fusion.windows import MODALITIES, Stream, Windows
from tests.models.fusion.builders import PATTERNS, WIDTHS, made, rows, shaken, train, windows_of

ALL = PATTERNS[-1:].repeat(6, 1)
SIZE = 512  # windows to learn from


def gated(*, seed: int = 0) -> Gated:
    method = made("gated", seed=seed)
    assert isinstance(method, Gated)
    return method


def gates_of(method: Gated, windows: Windows) -> Tensor:
    gates_BMC: Tensor = method.gates(windows, method.experts(windows))[0]
    return gates_BMC


def residual_of(method: Gated, windows: Windows) -> Tensor:
    logits_BC: Tensor = method.residual(method.experts(windows), gates_of(method, windows))
    return logits_BC


@pytest.mark.parametrize("at", range(len(MODALITIES)))
def test_with_one_modality_present_the_output_is_its_expert(at: int) -> None:
    method, only_BM = shaken(gated()), torch.zeros(6, 3, dtype=torch.bool)
    method.experts.scale_MC.fill_(0.7)
    method.experts.bias_MC.fill_(-0.3)
    only_BM[:, at] = True
    windows = windows_of(ALL).only(only_BM)
    name, stream = list(windows.streams())[at]
    assert torch.equal(method(windows), method.experts.experts[name](stream) * 0.7 - 0.3)


def test_a_class_that_the_one_modality_cannot_speak_of_stays_at_the_prior() -> None:
    method = shaken(gated())
    method.experts.speaks_MC[0, 1] = False
    logits_BC = method(windows_of(torch.tensor([[True, False, False]])))
    assert logits_BC[0, 1] == method.experts.prior_C[1] and logits_BC[0, 0] != method.experts.prior_C[0]


def without_residual(method: Gated) -> Gated:
    """A copy with a residual that is zero."""
    other = gated()
    other.load_state_dict(method.state_dict())
    nn.init.zeros_(other.residual.there_MCC)
    nn.init.zeros_(other.residual.not_there_MCC)
    return other


def test_the_residual_is_zero_at_the_start_and_then_counts_only_where_two_are_present() -> None:
    method, windows = shaken(gated()), windows_of(PATTERNS)
    assert not residual_of(gated(), windows).any()
    assert torch.equal((method(windows) != without_residual(method)(windows)).any(1), PATTERNS.sum(1) >= 2)


def test_what_says_nothing_of_any_class_corrects_nothing_with_the_other() -> None:
    method, windows = shaken(gated()), windows_of(torch.tensor([[True, True, False]] * 6))
    method.experts.speaks_MC[0] = False
    assert not residual_of(method, windows).any()


def test_a_modality_without_a_voice_in_the_class_corrects_it_too() -> None:
    """Whether a person is seen tells what glass means, though pictures know nothing of glass."""
    method, windows = shaken(gated()), windows_of(torch.tensor([[True, True, False]] * 6))
    method.experts.speaks_MC[0, 1] = False
    assert (method(windows) != without_residual(method)(windows))[:, 1].all()


def test_a_class_is_corrected_by_the_classes_that_decide_it_and_by_no_other() -> None:
    method, windows = shaken(gated()), windows_of(ALL)
    method.residual.parts_CC.copy_(torch.tensor([[False] * 3, [True, False, False], [False] * 3]))
    before_BC = residual_of(method, windows)
    assert (before_BC != 0).any(0).tolist() == [False, True, False]
    for part, moved in ((0, True), (2, False)):
        other = gated()
        other.load_state_dict(method.state_dict())
        other.experts.bias_MC[:, part] += 1.0
        assert bool((residual_of(other, windows) != before_BC).any()) is moved


def test_a_modality_corrects_what_others_say_and_not_what_it_says_itself() -> None:
    """Sound alone has a voice in the second class: what it says of others corrects that class no more, what is seen does."""
    method, windows = shaken(gated()), windows_of(torch.tensor([[True, True, False]] * 6))
    method.experts.speaks_MC[0, 1] = False
    before_B = residual_of(method, windows)[:, 1]
    for at, moved in ((0, True), (1, False)):
        other = gated()
        other.load_state_dict(method.state_dict())
        other.experts.bias_MC[at, 0] += 1.0
        assert bool((residual_of(other, windows)[:, 1] != before_B).any()) is moved


def test_a_correction_counts_by_what_is_left_of_the_gate_of_whoever_makes_it() -> None:
    method, opinions = shaken(gated()), shaken(gated()).experts(windows_of(ALL))
    gates_BMC = torch.zeros_like(opinions.logits_BMC)
    whole_BC = method.residual(opinions, gates_BMC)  # nobody has a voice: the prior is corrected in full
    assert whole_BC.any()
    torch.testing.assert_close(method.residual(opinions, gates_BMC + 0.25), 0.75 * whole_BC)


def test_the_residual_can_say_and() -> None:
    """Glass with nobody near: high only where glass is heard and nobody is seen. Chances of both, multiplied, say the same."""
    method, windows = gated(), windows_of(torch.tensor([[True, True, False]] * 64))
    shaken(method.experts)
    method.experts.speaks_MC.copy_(torch.tensor([[True, False, False], [False, True, False], [False, False, False]]))
    with torch.no_grad():
        method.residual.there_MCC[1, 2, 1] = method.residual.not_there_MCC[0, 2, 0] = 1.0
    opinions = method.experts(windows)
    chance_B = torch.sigmoid(opinions.logits_BMC[:, 1, 1]) * torch.sigmoid(-opinions.logits_BMC[:, 0, 0])
    prior = torch.sigmoid(opinions.prior_C[1]) * torch.sigmoid(-opinions.prior_C[0])
    torch.testing.assert_close(residual_of(method, windows)[:, 2], (chance_B / prior).log(), atol=1e-5, rtol=1e-5)


def test_the_residual_counts_in_full_where_trust_is_equal() -> None:
    method, windows = shaken(gated()), windows_of(PATTERNS[PATTERNS.sum(1) >= 2])
    for gate in method.gates.quality.values():
        for parameter in gate[-1].parameters():
            nn.init.zeros_(parameter)
    assert torch.allclose(method(windows) - without_residual(method)(windows), residual_of(method, windows), atol=1e-5)


def test_gates_sum_to_one_over_the_voices_and_are_equal_at_the_start() -> None:
    windows, voices_BMC = windows_of(PATTERNS), PATTERNS[:, :, None].expand(-1, -1, WIDTHS.classes)
    learned_BMC = gates_of(shaken(gated()), windows)
    assert not learned_BMC[~voices_BMC].any()
    assert torch.allclose(learned_BMC.sum(1), PATTERNS.any(1, keepdim=True).float().expand(-1, WIDTHS.classes))
    assert torch.allclose(gates_of(gated(), windows), voices_BMC / voices_BMC.sum(1, keepdim=True).clamp(min=1))


def test_a_modality_that_is_gated_away_gives_the_pool_of_the_others() -> None:
    method, windows = without_residual(shaken(gated())), windows_of(ALL)
    nn.init.constant_(method.gates.quality["audio"][-1].bias, -1e4)
    without = windows.only(torch.tensor([[True, False, True]]).expand(6, -1))
    assert torch.allclose(method(windows), method(without), atol=1e-6)


def test_of_two_the_one_that_is_not_gated_away_is_the_output_whatever_the_residual_learned() -> None:
    method, windows = shaken(gated()), windows_of(torch.tensor([[True, True, False]] * 6))
    nn.init.constant_(method.gates.quality["audio"][-1].bias, -1e4)
    assert torch.allclose(method(windows), method.experts(windows).logits_BMC[:, 0], atol=1e-6)


def test_an_expert_that_shouts_gets_no_more_than_one_that_speaks_up() -> None:
    method, windows = shaken(gated()), windows_of(ALL)
    method.experts.scale_MC[1] = 1e3
    spoken_BMC = gates_of(method, windows)
    method.experts.scale_MC[1] = 1e6
    assert torch.allclose(gates_of(method, windows), spoken_BMC, atol=1e-3)


def test_growth_is_from_the_mean_to_the_sum_of_the_log_odds() -> None:
    method, windows = gated(), windows_of(ALL)
    opinions = method.experts(windows)
    for growth, factor in ((-30.0, 1 / 3), (30.0, 1.0)):
        nn.init.constant_(method.growth_C, growth)
        assert torch.allclose(method(windows), factor * opinions.logits_BMC.sum(1), atol=1e-5)


def test_what_the_residual_and_the_gates_learn_moves_no_expert() -> None:
    method, windows = shaken(gated()), windows_of(ALL)
    (residual_of(method, windows).sum() + gates_of(method, windows).square().sum()).backward()
    assert not any(parameter.grad.any() for parameter in method.experts.parameters() if parameter.grad is not None)
    assert method.gates.evidence_MC.grad is not None and method.gates.evidence_MC.grad.any()


def test_shrunk_to_nothing_voices_count_alike_and_nothing_else_and_shrunk_to_all_nothing_changes() -> None:
    method, windows, C = shaken(gated()), windows_of(ALL), WIDTHS.classes
    before = method(windows)
    assert torch.equal(method.shrink(torch.ones(C), torch.ones(C))(windows), before)
    one = torch.arange(C) == 0
    other = shaken(gated()).shrink((~one).float(), (~one).float())
    assert torch.equal(other(windows)[:, 1:], before[:, 1:]) and not torch.equal(other(windows)[:, 0], before[:, 0])
    opinions = other.experts(windows)
    count_B = opinions.voices_BMC[:, :, 0].sum(1)
    mean_BMC = opinions.voices_BMC / opinions.voices_BMC.sum(1, keepdim=True).clamp(min=1)
    pooled_BC = opinions.pooled(mean_BMC, count_B[:, None] ** torch.sigmoid(other.growth_C))
    torch.testing.assert_close(other(windows)[:, 0], pooled_BC[:, 0])


def told_windows(*, seed: int) -> tuple[Windows, Tensor, Tensor]:
    """Both picture and sound show three random bits, but the sound of every second window is noise, which its first feature says."""
    random = torch.Generator().manual_seed(seed)
    target_BC = torch.randint(2, (SIZE, WIDTHS.classes), generator=random).float()
    bad_B = torch.arange(SIZE) % 2 == 0
    streams = {}
    for name, noise in (("frames", 1.5), ("audio", 0.5), ("transcripts", 0.0)):
        tokens_B1D = torch.randn(SIZE, 1, WIDTHS.tokens[name], generator=random) * noise
        tokens_B1D[:, 0, :3] += 2.0 * target_BC - 1.0
        quality_BQ = torch.zeros(SIZE, WIDTHS.quality[name])
        if name == "audio":
            tokens_B1D = torch.where(bad_B[:, None, None], 2.0 * torch.randn(tokens_B1D.shape, generator=random), tokens_B1D)
            quality_BQ[:, 0] = bad_B.float()
        streams[name] = Stream.of(tokens_B1D, torch.full((SIZE, 1), name != "transcripts"), quality_BQ)
    return Windows(**streams), target_BC, bad_B


def test_a_gate_learns_to_close_where_the_quality_says_that_it_is_noise() -> None:
    method = gated()
    windows, target_BC, _ = told_windows(seed=0)
    train(method, windows, target_BC, steps=60)
    fresh, _, bad_B = told_windows(seed=1)
    audio_BC = gates_of(method, fresh)[:, MODALITIES.index("audio")]
    assert audio_BC[bad_B].mean() < 0.3 < 0.5 < audio_BC[~bad_B].mean()
    assert torch.equal(gates_of(method, rows(fresh, slice(0, 1)))[0, 2], torch.zeros(WIDTHS.classes))
