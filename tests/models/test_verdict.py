"""Laws of models/verdict.py, on heads whose scales, biases and temperatures all differ."""

from __future__ import annotations

import pytest
import torch

from models.explain import removal, shapley, take
from models.fusion.methods import METHODS
from models.fusion.windows import MODALITIES
from models.head import FusionHead
from models.verdict import judge, probability_written, share_written
from tests.models.fusion.builders import PATTERNS, windows_of
from tests.models.test_head import BATCH, head


@pytest.mark.parametrize("method", METHODS)
def test_shares_and_an_empty_window_sum_to_the_log_odds_of_the_probability(method: str) -> None:
    made, windows = head(method).double(), windows_of(BATCH)
    found = judge(made, windows)
    summed_BC = found.share_BMC.sum(1) + found.empty_BC
    torch.testing.assert_close(summed_BC, torch.logit(found.probability_BC), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.probability_BC, made.probabilities(windows), atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_windows_that_are_read_once_give_the_shares_of_windows_read_for_every_subset(method: str) -> None:
    made, windows = head(method).double(), windows_of(BATCH)
    plain, found = shapley(made.logits, windows), shapley(*made.read(windows))
    for one, other in ((plain.share_BMC, found.share_BMC), (plain.logit_BC, found.logit_BC), (plain.empty_BC, found.empty_BC)):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("verdicts", [0, 2])
@pytest.mark.parametrize("method", METHODS)
def test_tokens_that_are_read_once_give_the_falls_of_tokens_read_for_every_one_taken(method: str, verdicts: int) -> None:
    made, windows = head(method, verdicts).double(), windows_of(BATCH)
    plain, found = removal(made.logits, windows), removal(*made.read_tokens(windows))
    torch.testing.assert_close(found.logit_BC, plain.logit_BC, atol=1e-12, rtol=0)
    for name in MODALITIES:
        torch.testing.assert_close(found.fall[name], plain.fall[name], atol=1e-12, rtol=0)
        torch.testing.assert_close(found.alone[name], plain.alone[name], atol=1e-12, rtol=0)
        assert plain.fall[name].any() and plain.alone[name].any()


def test_what_is_absent_has_no_share() -> None:
    windows = windows_of(BATCH)
    share_BMC = judge(head().double(), windows).share_BMC
    assert not share_BMC[~windows.present_BM].any()
    assert share_BMC[windows.present_BM].any(1).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_window_is_judged_the_same_to_the_digit_whatever_is_in_its_batch(method: str) -> None:
    made, windows = head(method).double(), windows_of(PATTERNS)
    whole = judge(made, windows)
    for at in range(len(PATTERNS)):
        alone = judge(made, take(windows, torch.tensor([at])))
        for write, many, one in (
            (probability_written, whole.probability_BC, alone.probability_BC),
            (share_written, whole.share_BMC, alone.share_BMC),
        ):
            assert [write(value) for value in many[at].flatten().tolist()] == [write(value) for value in one[0].flatten().tolist()]


def test_a_probability_keeps_its_digits_however_small_and_a_share_of_rounding_alone_is_nothing() -> None:
    assert probability_written(1.23456789e-12) == 1.2346e-12
    assert probability_written(0.9999999) == 1.0
    assert share_written(-1.06e-16) == 0.0 and str(share_written(-1.06e-16)) == "0.0"
    assert share_written(-2.345678) == -2.34568


def test_a_head_without_a_calibration_judges_nothing() -> None:
    with pytest.raises(ValueError, match="not calibrated"):
        judge(FusionHead(head().about), windows_of(BATCH))


def test_shares_stand_in_the_order_of_the_modalities() -> None:
    windows = windows_of(torch.eye(len(MODALITIES), dtype=torch.bool))
    share_BMC = judge(head().double(), windows).share_BMC
    assert [row.any(1).tolist() for row in share_BMC] == torch.eye(len(MODALITIES), dtype=torch.bool).tolist()
