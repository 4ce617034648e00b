"""Silent failures of the formulas: every term of every variant's forward, wrong in one way or more."""

import lora_lite as ll
from lora_lite.variants import low_rank
from properties.mutants.mutant import change, mutant

mutant(
    "lora_scale_lost",
    change(ll.LoRA.adapt_output, "self.scale", "1.0"),
    breaks="the update is not scaled by alpha / r",
    models="a scale that tests with alpha = r never see",
    applies_to="lora",
)
mutant(
    "hra_reflections_in_reverse",
    change(ll.HRA.adapt_input, "F.linear(x.to(wide), P), N.mT", "F.linear(x.to(wide), N), P.mT"),
    breaks="x meets H₀ first in place of H_{r−1}: R instead of Rᵀ",
    models="a product of reflections taken in the wrong order",
    applies_to="hra",
)
mutant(
    "low_rank_scaled_twice",
    change(low_rank.add_low_rank, "h = F.linear(x.to(A.dtype), A)", "h = scale * F.linear(x.to(A.dtype), A)"),
    breaks="the scale is applied before and after B",
    models="a scale applied in a helper and again by its caller",
    applies_to=("lora", "pissa", "dora", "eva"),
)
