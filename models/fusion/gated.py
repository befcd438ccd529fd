"""Gated: calibrated experts, weighed by the quality of what they read, and a small correction by what only both together show.

The default. Gates as in a mixture of experts (Jacobs et al., Neural Computation 1991), over quality instead of content. Evidence adds up
as count ** growth, between the mean (growth 0) and the sum (growth 1) of log-odds relative to the prior; the count is the gates' effective
number of voices, 1 / sum of squares (Kish 1965), so that a voice that is gated away does not count.

Laws:
1. With one modality present the output is its expert's, to the bit.
2. Gates of a class are zero without a voice and sum to one. At the start all voices are equal.
3. A modality gated to zero is as good as absent from the pool.
4. The residual counts as far as the gates share: not at all where one has all the weight, in full where two have half each. It is zero
   at the start, and has its own eyes: what it learns moves no expert.

Shape key: B windows, M modalities, Q quality features, D width of the residual, C classes.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from models.fusion.experts import Experts, Opinions
from models.fusion.parts import Summaries, masked_softmax, mlp
from models.fusion.windows import MODALITIES, Widths, Windows

GATE = 16  # hidden units of a gate


def silent(network: nn.Sequential) -> nn.Sequential:
    """The same, with a last layer of zeros."""
    for parameter in network[-1].parameters():
        nn.init.zeros_(parameter)
    return network


class Gates(nn.Module):
    """Scores from a modality's quality features, and from whether its expert leaves the prior: bounded, so that quality can outvote it.

    The scores read the experts and do not train them.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.quality = nn.ModuleDict({name: silent(mlp(widths.quality[name], GATE, widths.classes)) for name in MODALITIES})
        self.evidence_MC = nn.Parameter(torch.zeros(len(MODALITIES), widths.classes))

    def forward(self, windows: Windows, opinions: Opinions) -> Tensor:
        """(B, M, C)."""
        quality_BMC = torch.stack([self.quality[name](stream.quality_BQ) for name, stream in windows.streams()], dim=1)
        leaves_BMC = (opinions.logits_BMC - opinions.prior_C).detach().abs().tanh()
        return masked_softmax(quality_BMC + self.evidence_MC * leaves_BMC, opinions.voices_BMC, dim=1)


class Residual(nn.Module):
    """summaries, learned vectors where one is missing -> a correction of the log-odds."""

    def __init__(self, widths: Widths, dropout: float = 0.0) -> None:
        super().__init__()
        narrow = replace(widths, model=widths.model // 2)
        self.summaries = Summaries(narrow, dropout, missing=True)
        self.correct = silent(mlp(len(MODALITIES) * narrow.model, narrow.model, widths.classes, dropout))

    def forward(self, windows: Windows) -> Tensor:
        """(B, C)."""
        logits_BC: Tensor = self.correct(self.summaries(windows).flatten(1))
        return logits_BC


class Gated(nn.Module):
    """experts -> gates -> pool, + residual where the gates share."""

    def __init__(self, widths: Widths, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.experts = Experts(widths, dropout)
        self.gates = Gates(widths)
        self.growth_C = nn.Parameter(torch.zeros(widths.classes))
        self.residual = Residual(widths, dropout)

    def forward(self, windows: Windows) -> Tensor:
        """(B, C) logits."""
        return self.fuse(windows, self.experts(windows))

    def fuse(self, windows: Windows, opinions: Opinions) -> Tensor:
        """The same from given opinions: gates learn from experts that did not train on the window."""
        gates_BMC = self.gates(windows, opinions)
        count_BC = 1.0 / gates_BMC.square().sum(1).clamp(min=1.0 / len(MODALITIES))
        pooled_BC = opinions.pooled(gates_BMC, count_BC ** torch.sigmoid(self.growth_C))
        shared_BC = (2.0 * gates_BMC * (1.0 - gates_BMC)).sum(1).clamp(max=1.0)
        logits_BC: Tensor = pooled_BC + shared_BC * self.residual(windows)
        return logits_BC
