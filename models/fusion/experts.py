"""One expert by modality: its tokens and their quality to calibrated log-odds of the classes; and how several experts' log-odds are pooled.

Laws:
1. An expert reads its own modality and nothing else.
2. An expert has a voice in a class where its modality is present and it can speak of that class; elsewhere its log-odds are the prior's.
3. Pooled with one voice in a class, the log-odds are that expert's, to the bit; with none, the prior's.
4. Calibration and what an expert can speak of are buffers: they travel with the weights, and no training step moves them.

Shape key: B windows, M modalities, T tokens, D width of a token or of the model, Q quality features, V verdicts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.fusion.parts import AttentionPool, mlp, project, shrink_rows, silent
from models.fusion.windows import MODALITIES, Stream, Widths, Windows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opinions:
    """What the experts say of a batch: calibrated log-odds, in what they have a voice (bool), and the prior's log-odds."""

    logits_BMC: Tensor
    voices_BMC: Tensor
    prior_C: Tensor

    def pooled(self, weights_BMC: Tensor, strength_BC: Tensor | float = 1.0) -> Tensor:
        """prior + strength * (weighted mean - prior), (B, C). Weights: 0 without a voice, else a sum of 1. Strength: 1 for one voice."""
        mean_BC = (weights_BMC * self.logits_BMC).sum(1)
        pooled_BC = strength_BC * mean_BC - (strength_BC - 1.0) * self.prior_C
        return torch.where(self.voices_BMC.any(1), pooled_BC, self.prior_C)


class Expert(nn.Module):
    """Tokens of one modality to log-odds, not yet calibrated: what its encoder says (the greatest over the tokens), and a correction.

    The correction, of zeros at the start: project, pool by attention, move by quality, one hidden layer. So the same numbers can mean
    another thing in a faint recording than in a loud one. ValueError: no such modality.
    """

    def __init__(self, name: str, widths: Widths, dropout: float = 0.0) -> None:
        super().__init__()
        if name not in MODALITIES:
            raise ValueError(f"{name!r} must be one of {', '.join(MODALITIES)}")
        self.project = project(widths.tokens[name], widths.model, dropout)
        self.quality = nn.Linear(widths.quality[name], widths.model)
        self.pool = AttentionPool(widths.model)
        self.classify = mlp(widths.model, widths.model, widths.classes, dropout)
        self.verdicts = widths.verdicts
        if self.verdicts:
            silent(self.classify)
            self.trust_CV = nn.Parameter(torch.eye(widths.classes, self.verdicts))

    def forward(self, stream: Stream) -> Tensor:
        """(B, C). Without a token: finite, and without a meaning."""
        return self._weighed(self._tokens(stream), stream)

    def read(self, stream: Stream) -> Stream:
        """Tokens that are read already, V + D wide, for `weigh`: whoever takes single ones away need not have the others read again."""
        return Stream.of(
            torch.cat([stream.tokens_BTD[:, :, : self.verdicts], self._tokens(stream)], dim=2), stream.mask_BT, stream.quality_BQ
        )

    def weigh(self, read: Stream) -> Tensor:
        """(B, C) of a stream that `read` made, whatever tokens were taken from it since."""
        return self._weighed(read.tokens_BTD[:, :, self.verdicts :], read)

    def _tokens(self, stream: Stream) -> Tensor:
        tokens_BTD: Tensor = self.project(stream.tokens_BTD) + self.quality(stream.quality_BQ)[:, None]
        return tokens_BTD

    def _weighed(self, tokens_BTD: Tensor, stream: Stream) -> Tensor:
        logits_BC: Tensor = self.classify(self.pool(tokens_BTD, stream.mask_BT))
        return logits_BC + self._verdict(stream) if self.verdicts else logits_BC

    @torch.no_grad()
    def shrink(self, share_C: Tensor) -> Expert:
        """Keep that share of what was learned of each class beyond the encoder's verdict. Without verdicts: nothing to do."""
        if self.verdicts:
            own_CV = torch.eye(len(share_C), self.verdicts, device=share_C.device)
            shrink_rows(self.classify, share_C)
            self.trust_CV.copy_(own_CV + share_C[:, None] * (self.trust_CV - own_CV))
        return self

    def _verdict(self, stream: Stream) -> Tensor:
        said_BTV = stream.tokens_BTD[:, :, : self.verdicts].masked_fill(~stream.mask_BT[:, :, None], float("-inf"))
        said_BV = torch.where(stream.present_B[:, None], said_BTV.amax(1), 0.0)
        return said_BV @ self.trust_CV.T


class Experts(nn.Module):
    """All of them. Calibrated log-odds = scale * log-odds + bias, by modality and class (Platt scaling)."""

    scale_MC: Tensor
    bias_MC: Tensor
    speaks_MC: Tensor

    def __init__(self, widths: Widths, dropout: float = 0.0) -> None:
        super().__init__()
        shape = (len(MODALITIES), widths.classes)
        self.experts = nn.ModuleDict({name: Expert(name, widths, dropout) for name in MODALITIES})
        self.prior_C = nn.Parameter(torch.zeros(widths.classes))
        self.register_buffer("scale_MC", torch.ones(shape))
        self.register_buffer("bias_MC", torch.zeros(shape))
        self.register_buffer("speaks_MC", torch.ones(shape, dtype=torch.bool))

    def of(self, name: str) -> Expert:
        """A modality's."""
        expert = self.experts[name]
        assert isinstance(expert, Expert)
        return expert

    def forward(self, windows: Windows) -> Opinions:
        """What each says."""
        return self.heard(self.odds(windows), windows.present_BM)

    def odds(self, windows: Windows) -> Tensor:
        """Calibrated log-odds, odds_BMC; without a meaning where a modality is absent."""
        return self._calibrated([self.of(name)(stream) for name, stream in windows.streams()])

    def read(self, windows: Windows) -> Windows:
        """The same windows with tokens that are read already, for `weigh`."""
        return Windows(**{name: self.of(name).read(stream) for name, stream in windows.streams()})

    def weigh(self, read: Windows) -> Opinions:
        """What each says of windows that `read` made, whatever tokens were taken from them since."""
        odds_BMC = self._calibrated([self.of(name).weigh(stream) for name, stream in read.streams()])
        return self.heard(odds_BMC, read.present_BM)

    def _calibrated(self, raw: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(raw), dim=1) * self.scale_MC + self.bias_MC

    def heard(self, odds_BMC: Tensor, present_BM: Tensor) -> Opinions:
        """The same from calibrated log-odds, whoever made them: where there is no voice they are left out."""
        voices_BMC = present_BM[:, :, None] & self.speaks_MC
        logits_BMC = torch.where(voices_BMC, odds_BMC, self.prior_C)
        return Opinions(logits_BMC=logits_BMC, voices_BMC=voices_BMC, prior_C=self.prior_C)
