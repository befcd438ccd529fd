"""Every fusion method by name: what a benchmark compares, and what a head's file names.

Laws, of every method, at any parameters:
1. What a window lacks cannot change its logits, nor can padding, nor the other windows of the batch.
2. Logits and gradients are finite whatever is present; with nothing present the logits are the method's prior.
3. A method is built from `Widths` alone, and the same seed builds the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from models.fusion.attention_pooling import AttentionPooling
from models.fusion.bottleneck import Bottleneck
from models.fusion.concatenation import Concatenation
from models.fusion.cross_attention import CrossAttention
from models.fusion.gated import Gated
from models.fusion.hierarchical import Hierarchical
from models.fusion.log_odds import LogOdds
from models.fusion.product import Product
from models.fusion.weighted_sum import WeightedSum
from models.fusion.windows import Widths

DEFAULT = "gated"
METHODS: Mapping[str, Callable[[Widths], nn.Module]] = {
    "concatenation": Concatenation,
    "weighted_sum": WeightedSum,
    "product": Product,
    "attention_pooling": AttentionPooling,
    "cross_attention": CrossAttention,
    "hierarchical": Hierarchical,
    "bottleneck": Bottleneck,
    "log_odds": LogOdds,
    "log_odds_total": partial(LogOdds, total=True),
    "gated": Gated,
}
"""Each takes (B windows) and gives (B, C) logits."""
