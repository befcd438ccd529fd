"""Laws of models/attention.py, for every method."""

from __future__ import annotations

import pytest
import torch

from models.attention import NECK, Read, by_token, gates, maps
from models.fusion.bottleneck import BOTTLENECK
from models.fusion.methods import METHODS
from models.fusion.parts import HEADS, Attention
from models.fusion.windows import MODALITIES, Windows
from models.head import About, FusionHead
from tests.models.fusion.builders import PATTERNS, TOKENS, WIDTHS, padded, shaken, windows_of

F, A, W = MODALITIES
POOLS = [Read("pool", (name,)) for name in MODALITIES]
READS = {
    "attention_pooling": [Read("query", MODALITIES)],
    "cross_attention": [*POOLS, Read(F, (A,)), Read(A, (F,)), Read(F, (W,)), Read(W, (F,)), Read(A, (W,)), Read(W, (A,))],
    "bottleneck": [Read(f"layer {layer}", (name, NECK)) for layer in range(2) for name in MODALITIES],
}
"""Of the other methods: POOLS."""


def made(method: str) -> FusionHead:
    torch.manual_seed(0)
    return shaken(FusionHead(About(method=method, widths=WIDTHS, classes=("a", "b", "c"), encoders="none", seed=0, recipe="none")))


def masks(windows: Windows) -> dict[str, torch.Tensor]:
    neck = {NECK: torch.ones(len(windows.present_BM), BOTTLENECK, dtype=torch.bool)}
    return {name: stream.mask_BT for name, stream in windows.streams()} | neck


@pytest.mark.parametrize("method", METHODS)
def test_each_attention_sums_to_one_over_what_is_there_and_has_nothing_elsewhere(method: str) -> None:
    windows = windows_of()
    found = maps(made(method), windows)
    assert list(found) == READS.get(method, POOLS)
    for read, weights_BHNS in found.items():
        mask_BS = torch.cat([masks(windows)[name] for name in read.of], dim=1)
        assert weights_BHNS.shape[0] == len(PATTERNS) and weights_BHNS.shape[3] == mask_BS.shape[1]
        assert weights_BHNS.shape[1] == (1 if read.reader == "pool" else HEADS)
        assert not weights_BHNS[~mask_BS[:, None, None].expand_as(weights_BHNS)].any()
        assert torch.allclose(weights_BHNS.sum(-1), mask_BS.any(1)[:, None, None].float().expand(weights_BHNS.shape[:3]), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_looking_changes_no_logit_and_leaves_nothing_behind(method: str) -> None:
    head, windows = made(method), windows_of()
    before = head.logits(windows)
    found = maps(head, windows)
    assert torch.equal(head.logits(windows), before)
    assert not any(module._forward_hooks for module in head.modules())
    assert all(torch.equal(weights, found[read]) for read, weights in maps(head, windows).items())
    with pytest.raises(ValueError, match="wide"):
        maps(head, Windows(frames=windows.audio, audio=windows.frames, transcripts=windows.transcripts))
    assert not any(module._forward_hooks for module in head.modules()), "nor after an error"


def test_attention_s_weights_are_those_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(16), torch.nn.MultiheadAttention(16, HEADS, batch_first=True)
    query_BTD, context_BSD, mask_BS = torch.randn(2, 3, 16), torch.randn(2, 5, 16), torch.tensor([[True] * 5, [True, False] * 2 + [True]])
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
    _, expected_BHTS = theirs(query_BTD, context_BSD, context_BSD, key_padding_mask=~mask_BS, average_attn_weights=False)
    assert torch.allclose(ours.weights(query_BTD, context_BSD, mask_BS), expected_BHTS, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_by_token_is_the_mean_over_heads_whatever_the_padding(method: str) -> None:
    head, windows = made(method), windows_of()
    told, more = (by_token(maps(head, some), some) for some in (windows, padded(windows, 3)))
    for reader, parts in told.items():
        assert set(parts) <= set(MODALITIES)
        for name, weight_BT in parts.items():
            assert weight_BT.shape == (len(PATTERNS), TOKENS) and not weight_BT[~masks(windows)[name]].any()
            assert torch.allclose(more[reader][name][:, :TOKENS], weight_BT, atol=1e-6)
            if reader in MODALITIES:
                both_B = windows.present_BM[:, [MODALITIES.index(reader), MODALITIES.index(name)]].all(1)
                assert torch.allclose(weight_BT.sum(1), both_B.float(), atol=1e-6)
    if method == "attention_pooling":
        whole_B = torch.stack([weight_BT.sum(1) for weight_BT in told["query"].values()]).sum(0)
        assert torch.allclose(whole_B, windows.present_BM.any(1).float(), atol=1e-6)
    if method == "bottleneck":
        weights_BHNS = maps(head, windows)[Read("layer 0", (A, NECK))]
        assert torch.allclose(told["layer 0"][A], weights_BHNS[:, :, TOKENS:, :TOKENS].mean((1, 2)))


def test_a_pool_looks_at_what_its_score_is_greatest_for() -> None:
    head, windows = made("concatenation"), windows_of()
    pool = head.method.summaries.pools.pools[1]
    pool.score.weight.data.mul_(1e4)
    weight_BT = by_token(maps(head, windows), windows)["pool"]["audio"]
    score_BT = pool.score(head.method.summaries.encoders(head.standard(windows))[1]).squeeze(2)
    best_B = score_BT.masked_fill(~windows.audio.mask_BT, float("-inf")).argmax(1)[windows.audio.present_B]
    assert weight_BT[windows.audio.present_B].argmax(1).tolist() == best_B.tolist()
    assert (weight_BT[windows.audio.present_B].amax(1) > 0.99).all()


def test_gates_sum_to_one_over_the_voices_and_only_gated_has_them() -> None:
    head, windows = made("gated"), windows_of()
    head.method.experts.speaks_MC[0, 1] = False
    head.standard.fit(windows_of(seed=1))
    seen: list[torch.Tensor] = []
    hook = head.method.gates.register_forward_hook(lambda _, inputs, found: seen.append(found[0]))
    head.logits(windows)
    hook.remove()
    gates_BMC = gates(head, windows)
    assert torch.equal(gates_BMC, seen[0]), "those that the logits were made with"
    voices_BMC = windows.present_BM[:, :, None] & head.method.experts.speaks_MC
    assert gates_BMC.shape == voices_BMC.shape and not gates_BMC[~voices_BMC].any() and (gates_BMC[voices_BMC] > 0).all()
    assert torch.allclose(gates_BMC.sum(1), voices_BMC.any(1).float(), atol=1e-6)
    with pytest.raises(ValueError, match="hierarchical has no gates"):
        gates(made("hierarchical"), windows)
