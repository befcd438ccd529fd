"""Gated: calibrated experts, weighed by the quality of what they read, and a small correction by what only several together show.

The default. Gates as in a mixture of experts (Jacobs et al., Neural Computation 1991), over quality instead of content. Evidence adds up
as count ** growth, between the mean (growth 0) and the sum (growth 1) of log-odds relative to the prior; the count is the gates' effective
number of voices, 1 / sum of squares (Kish 1965), so that a voice that is gated away does not count. The correction reads what the experts
say of the classes that decide a class, so that glass with a person is learned from few examples (stacking: Wolpert, Neural Networks 1992).

Laws:
1. With one modality present the output is its expert's, to the bit.
2. Gates of a class are zero without a voice and sum to one. At the start all voices are equal.
3. A modality gated to zero is as good as absent from the pool.
4. The residual counts as far as trust is shared, by quality among what is present, with a voice or without: not at all where one modality
   has all of it, in full where two have half each. It is zero at the start, and what it learns moves no expert. It corrects the classes
   that modalities decide together, by the classes that decide them: of others it could only learn which things stood beside each other in
   training.
5. By the residual a modality corrects what others say of a class, or the prior where nobody has a voice in it: it counts by what is left
   of its own gate.

Shape key: B windows, M modalities, Q quality features, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.fusion.experts import Experts, Opinions
from models.fusion.parts import masked_softmax, mlp, shrink_rows, silent
from models.fusion.windows import MODALITIES, Stream, Widths, Windows

GATE = 16  # hidden units


class Gates(nn.Module):
    """Scores from a modality's quality features, and from whether its expert leaves the prior: bounded, so that quality can outvote it.

    The scores read the experts and do not train them.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.quality = nn.ModuleDict({name: silent(mlp(widths.quality[name], GATE, widths.classes)) for name in MODALITIES})
        self.evidence_MC = nn.Parameter(torch.zeros(len(MODALITIES), widths.classes))

    def forward(self, windows: Windows, opinions: Opinions) -> tuple[Tensor, Tensor]:
        """Gates among the voices, and trust among all that is present; both (B, M, C)."""
        quality_BMC = torch.stack([self.quality[name](stream.quality_BQ) for name, stream in windows.streams()], dim=1)
        leaves_BMC = (opinions.logits_BMC - opinions.prior_C).detach().abs().tanh()
        gates_BMC = masked_softmax(quality_BMC + self.evidence_MC * leaves_BMC, opinions.voices_BMC, dim=1)
        return gates_BMC, masked_softmax(quality_BMC, windows.present_BM[:, :, None], dim=1)

    @torch.no_grad()
    def shrink(self, share_C: Tensor) -> Gates:
        """Keep that share of every score: at 0 all voices of a class are equal."""
        for name in MODALITIES:
            shrink_rows(self.quality[name], share_C)
        self.evidence_MC.mul_(share_C)
        return self


class Residual(nn.Module):
    """What one modality says of the classes that decide a class -> a correction of what the others say of it.

    Linear in the logarithms of the chances that a class is there, and that it is not, relative to the prior's: that of "glass, and nobody"
    is a sum of two of them. `parts_CC`: which classes (second) each class (first) is decided by (bool). Weights [m, c, d]: how what m says
    of d corrects c.
    """

    parts_CC: Tensor

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        C = widths.classes
        self.register_buffer("parts_CC", torch.ones(C, C, dtype=torch.bool))
        self.there_MCC, self.not_there_MCC = (nn.Parameter(torch.zeros(len(MODALITIES), C, C)) for _ in range(2))

    def forward(self, opinions: Opinions, gates_BMC: Tensor) -> Tensor:
        """(B, C)."""
        corrections_BMC = self._by(opinions, 1.0, self.there_MCC) + self._by(opinions, -1.0, self.not_there_MCC)
        return ((1.0 - gates_BMC) * corrections_BMC).sum(1)

    @torch.no_grad()
    def shrink(self, share_C: Tensor) -> Residual:
        """Keep that share of every correction."""
        for weights_MCC in (self.there_MCC, self.not_there_MCC):
            weights_MCC.mul_(share_C[:, None])
        return self

    def _by(self, opinions: Opinions, sign: float, weights_MCC: Tensor) -> Tensor:
        """(B, M, C): zeros by what has no voice."""
        said_BMC = F.logsigmoid(sign * opinions.logits_BMC) - F.logsigmoid(sign * opinions.prior_C)
        said_BMC = torch.where(opinions.voices_BMC, said_BMC, 0.0).detach()
        return (said_BMC[:, :, None] * (weights_MCC * self.parts_CC)).sum(3)


class Gated(nn.Module):
    """experts -> gates -> pool, + residual where trust is shared."""

    def __init__(self, widths: Widths, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.experts = Experts(widths, dropout)
        self.gates = Gates(widths)
        self.growth_C = nn.Parameter(torch.zeros(widths.classes))
        self.residual = Residual(widths)

    def forward(self, windows: Windows) -> Tensor:
        """(B, C) logits."""
        return self.fuse(windows, self.experts(windows))

    def condense(self, windows: Windows) -> Windows:
        """What fusing needs of them: one token a modality, what its expert says; quality as it is."""
        odds_BMC = self.experts.odds(windows)
        parts = [(name, odds_BMC[:, m, None], stream) for m, (name, stream) in enumerate(windows.streams())]
        return Windows(**{name: Stream.of(odds_B1C, stream.present_B[:, None], stream.quality_BQ) for name, odds_B1C, stream in parts})

    def condensed(self, windows: Windows) -> Tensor:
        """(B, C) logits of windows that `condense` made, whatever was taken from them since: the experts are not asked again."""
        odds_BMC = torch.stack([stream.tokens_BTD[:, 0] for _, stream in windows.streams()], dim=1)
        return self.fuse(windows, self.experts.heard(odds_BMC, windows.present_BM))

    def weigh(self, read: Windows) -> Tensor:
        """(B, C) logits of windows that `experts.read` made, whatever tokens were taken from them since."""
        return self.fuse(read, self.experts.weigh(read))

    def shrink(self, gates_C: Tensor, residual_C: Tensor) -> Gated:
        """Keep those shares of what the gates and the residual learned of each class. At 0 and 0: voices that count alike."""
        self.gates.shrink(gates_C)
        self.residual.shrink(residual_C)
        return self

    def fuse(self, windows: Windows, opinions: Opinions) -> Tensor:
        """The same from given opinions: gates learn from experts that did not train on the window."""
        gates_BMC, trust_BMC = self.gates(windows, opinions)
        count_BC = 1.0 / gates_BMC.square().sum(1).clamp(min=1.0 / len(MODALITIES))
        pooled_BC = opinions.pooled(gates_BMC, count_BC ** torch.sigmoid(self.growth_C))
        shared_BC = (2.0 * trust_BMC * (1.0 - trust_BMC)).sum(1).clamp(max=1.0)
        logits_BC: Tensor = pooled_BC + shared_BC * self.residual(opinions, gates_BMC)
        return logits_BC
