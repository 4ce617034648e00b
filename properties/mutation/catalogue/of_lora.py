"""Silent failures of LoRA: every term of the formula, wrong in one way or more."""

import lora_lite as ll
from lora_lite.spec import Variant
from properties.mutation.mutant import change, mutant

# Forward: the output is wrong.

mutant(
    "lora_scale_lost",
    change(ll.LoRA.adapt_output, "self.scale", "1.0"),
    breaks="the update is not scaled by alpha / r",
    models="a scale that tests with alpha = r never see",
    applies_to="lora",
)
mutant(
    "lora_scale_inverted",
    change(ll.LoRA.adapt_output, "self.scale", "1 / self.scale"),
    breaks="the update is scaled by r / alpha",
    models="a quotient upside down",
    applies_to="lora",
)
mutant(
    "lora_alpha_without_r",
    change(ll.LoRA.adapt_output, "self.scale", "self.config.alpha"),
    breaks="the update is scaled by alpha",
    models="a setting of another library's meaning: alpha taken as the scale itself",
    applies_to="lora",
)
mutant(
    "lora_scale_squared",
    change(ll.LoRA.adapt_output, "self.scale", "self.scale**2"),
    breaks="the update is scaled by (alpha / r)²",
    models="a scale folded into the factors and applied again",
    applies_to="lora",
)
mutant(
    "lora_update_subtracted",
    change(ll.LoRA.adapt_output, "self.scale", "-self.scale"),
    breaks="the update is subtracted",
    models="a sign; training from scratch learns around it, a loaded adapter does not",
    applies_to="lora",
)
mutant(
    "lora_update_lost_for_a_single_vector",
    change(ll.LoRA.adapt_output, "self.scale", "self.scale if x.ndim > 1 else 0.0"),
    breaks="an input without leading dimensions gets no update",
    models="a batch shape that nobody tried",
    applies_to="lora",
)
mutant(
    "lora_factors_transposed_where_square",
    change(
        ll.LoRA.adapt_output,
        "self.A, self.B,",
        "*((self.A, self.B) if self.shape.d_in != self.shape.d_out else (self.B.mT, self.A.mT)),",
    ),
    breaks="in a square layer the update is its own transpose",
    models="a transposed weight convention (Conv1D), visible only where shapes happen to fit",
    applies_to="lora",
)
mutant(
    "lora_bias_added_twice",
    change(
        ll.LoRA.adapt_output, "add_low_rank(y,", "add_low_rank(y if layer.bias is None else y + layer.bias,"
    ),
    breaks="the bias is added to an output that holds it already",
    models="a bias handled by base and adapter both",
    applies_to="lora",
)

# Gradients: the output is right, what training makes of it is not.

mutant(
    "lora_B_detached",
    change(ll.LoRA.adapt_output, "self.B", "self.B.detach()"),
    breaks="B gets no gradient",
    models="a .data or .detach() on a weight; nothing ever learns",
    applies_to="lora",
)
mutant(
    "lora_A_detached",
    change(ll.LoRA.adapt_output, "self.A", "self.A.detach()"),
    breaks="A gets no gradient",
    models="a random projection where a learnt one is meant; at init A's gradient is zero anyway",
    applies_to="lora",
)
mutant(
    "lora_gradient_of_B_doubled",
    change(ll.LoRA.adapt_output, "self.B", "2 * self.B - self.B.detach()"),
    breaks="B's gradient is twice what it should be",
    models="a term that backpropagates on two ways; Adam hides it",
    applies_to="lora",
)
mutant(
    "lora_gradient_of_A_reversed",
    change(ll.LoRA.adapt_output, "self.A", "2 * self.A.detach() - self.A"),
    breaks="A's gradient has the wrong sign",
    models="a hand-written backward pass; at init A's gradient is zero anyway",
    applies_to="lora",
)
mutant(
    "lora_A_frozen",
    change(ll.LoRA.specs, 'kaiming_uniform, first_gradient="zero"', "kaiming_uniform"),
    breaks="A is a buffer",
    models="a trainable tensor registered as a constant: fewer parameters, no error",
    applies_to="lora",
)
mutant(
    "lora_A_declared_to_learn_at_once",
    change(
        ll.LoRA.specs, 'kaiming_uniform, first_gradient="zero"', 'kaiming_uniform, first_gradient="nonzero"'
    ),
    breaks="A's first gradient is declared nonzero and is zero",
    models="a declaration that nobody holds against the formula",
    applies_to="lora",
)
mutant(
    "lora_declared_to_rounding",
    change(Variant.identity, 'return "exact"', 'return "rounding"'),
    change(ll.LoRA.adapt_output, "add_low_rank(y, x", "add_low_rank(y + (y * 3 / 3 - y).detach(), x"),
    breaks="an exact identity is declared one to rounding, and is no better than that",
    models="a promise weakened to fit the code",
    applies_to="lora",
)

# Init: training starts from somewhere else than the paper says.

mutant(
    "lora_B_not_zero",
    change(ll.LoRA.specs, "zeros, first", "kaiming_uniform, first"),
    breaks="no identity at init",
    models="both factors drawn alike",
    applies_to="lora",
)
mutant(
    "lora_A_zero_as_well",
    change(ll.LoRA.specs, "kaiming_uniform, first", "zeros, first"),
    breaks="nothing can ever learn: the product of two zeros",
    models="both factors zero",
    applies_to="lora",
)
mutant(
    "lora_inits_swapped",
    change(
        ll.LoRA.specs,
        'kaiming_uniform, first_gradient="zero"),\n        "B": ParamSpec((shape.d_out, config.r), zeros, first_gradient="nonz',
        'zeros, first_gradient="nonzero"),\n        "B": ParamSpec((shape.d_out, config.r), kaiming_uniform, first_gradient="z',
    ),
    breaks="A = 0 and B is drawn, declarations and all",
    models="the factors' roles swapped: still an identity, still learns, another optimisation",
    applies_to="lora",
)
