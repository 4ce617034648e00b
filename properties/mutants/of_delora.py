"""Silent failures of DeLoRA: every term of the formula, wrong in one way or more."""

import lora_lite as ll
from lora_lite.variants import delora
from properties.mutants.mutant import change, mutant

# Forward: the output is wrong.

mutant(
    "delora_strength_without_r",
    change(ll.DeLoRA.factors, "(strength.to(wide) / A.shape[0])", "strength.to(wide)"),
    breaks="λ in place of λ/r",
    models="a normalisation lost; both copies agree at init",
    applies_to="delora",
)

mutant(
    "delora_strength_by_the_root_of_r",
    change(ll.DeLoRA.factors, "/ A.shape[0])", "/ A.shape[0] ** 0.5)"),
    breaks="λ/√r",
    models="another paper's rule",
    applies_to="delora",
)

mutant(
    "delora_lambda_on_the_difference",
    change(ll.DeLoRA.adapt_output, "self.lambda0", "self.lambda_"),
    breaks="the frozen copy is scaled by the live λ",
    models="the authors' code: λ has no first gradient",
    applies_to="delora",
)

mutant(
    "delora_copy_not_subtracted",
    change(ll.DeLoRA.adapt_output, "-up0]", "0 * up0]"),
    breaks="nothing is subtracted",
    models="no identity at init",
    applies_to="delora",
)

mutant(
    "delora_zero_b_strength_without_r",
    change(
        ll.DeLoRA.adapt_output,
        "    if self.config.init",
        "    down = down * (1 if self.config.init == 'frozen_copy' else self.A.shape[0])\n    if self.config.init",
    ),
    breaks="with zero_b the strength is λ",
    models="an option's branch with another normalisation; bit-exact at init",
    applies_to="delora",
)

mutant(
    "delora_column_norms_lost",
    change(ll.DeLoRA.factors, " * self.w.to(wide)", ""),
    breaks="w is not there",
    models="a term lost; both copies agree at init",
    applies_to="delora",
)

mutant(
    "delora_column_norms_squared",
    change(ll.DeLoRA.factors, "self.w.to(wide)", "self.w.to(wide) ** 2"),
    breaks="w²",
    models="a norm applied by init and forward both",
    applies_to="delora",
)

mutant(
    "delora_A_not_normalised",
    change(ll.DeLoRA.factors, "unit(A.to(wide), 1, floor)", "A.to(wide)"),
    breaks="c = 1 / |B_i|",
    models="half of a normalisation",
    applies_to="delora",
)

mutant(
    "delora_B_not_normalised",
    change(ll.DeLoRA.factors, "unit(B.to(wide), 0, floor)", "B.to(wide)"),
    breaks="c = 1 / |A_i|",
    models="half of a normalisation",
    applies_to="delora",
)

mutant(
    "delora_B_normalised_by_rows",
    change(ll.DeLoRA.factors, "unit(B.to(wide), 0, floor)", "unit(B.to(wide), 1, floor)"),
    breaks="rows of B have unit norm, not its columns",
    models="the wrong axis, which broadcasting allows",
    applies_to="delora",
)

mutant(
    "delora_A_normalised_by_columns",
    change(ll.DeLoRA.factors, "unit(A.to(wide), 1, floor)", "unit(A.to(wide), 0, floor)"),
    breaks="columns of A have unit norm, not its rows",
    models="the wrong axis, which broadcasting allows",
    applies_to="delora",
)

mutant(
    "delora_normalised_as_a_whole",
    change(delora.unit, "vector_norm(v, dim=dim, keepdim=True)", "vector_norm(v, keepdim=True)"),
    breaks="A and B are divided by their Frobenius norms",
    models="a norm without dim; right at rank 1",
    applies_to="delora",
)

mutant(
    "delora_norm_squared",
    change(
        delora.unit, "norm = torch.linalg.vector_norm(v, dim=dim, keepdim=True)", "norm = v.square().sum(dim, keepdim=True)"
    ),
    breaks="rows are divided by their squared norms",
    models="a missing root",
    applies_to="delora",
)

mutant(
    "delora_floor_lost",
    change(ll.DeLoRA.factors, "else ZERO_B_NORM_FLOOR", "else 0.0"),
    breaks="with zero_b no norm is floored: B = 0 counts as norm 1",
    models="peft's constant not reproduced; bit-exact at init, B's first gradient 1e4 times too small",
    applies_to="delora",
)

mutant(
    "delora_floor_in_every_mode",
    change(ll.DeLoRA.factors, '0.0 if self.config.init == "frozen_copy" else ZERO_B_NORM_FLOOR', "ZERO_B_NORM_FLOOR"),
    breaks="frozen_copy floors norms at 1e-4 as well",
    models="a guard in a mode that needs none: short rows of A lose their strength",
    applies_to="delora",
)

mutant(
    "delora_floor_added",
    change(
        delora.unit,
        "torch.where(norm > floor, norm, floor or 1.0)",
        "(norm + floor if floor else torch.where(norm > 0, norm, 1))",
    ),
    breaks="|A_i| + 1e-4 in place of the larger of the two",
    models="clamp written as a sum",
    applies_to="delora",
)

# Gradients: the output is right, what training makes of it is not.

mutant(
    "delora_norms_detached",
    change(delora.unit, "torch.linalg.vector_norm(v, dim", "torch.linalg.vector_norm(v.detach(), dim"),
    breaks="norms of A and B are constants to the gradient, which then changes their length",
    models="DoRA's rule taken over",
    applies_to="delora",
)

mutant(
    "delora_lambda_detached",
    change(ll.DeLoRA.factors, "strength.to(wide)", "strength.detach().to(wide)"),
    breaks="λ gets no gradient",
    models="a strength that is never learnt; with zero_b its first gradient is zero anyway",
    applies_to="delora",
)

mutant(
    "delora_lambda_detached_with_zero_b",
    change(
        ll.DeLoRA.adapt_output,
        "self.factors(self.A, self.B, self.lambda_)",
        "self.factors(self.A, self.B, self.lambda_ if self.config.init == 'frozen_copy' else self.lambda_.detach())",
    ),
    breaks="with zero_b λ gets no gradient",
    models="the option that has fewer tests; the first gradient is zero anyway",
    applies_to="delora",
)

mutant(
    "delora_A_detached",
    change(ll.DeLoRA.factors, "unit(A.to(wide)", "unit(A.detach().to(wide)"),
    breaks="A gets no gradient",
    models="a direction that never turns",
    applies_to="delora",
)

mutant(
    "delora_sign_has_a_gradient_on_a_line",
    change(delora.unit, "v.sign(), divided)", "divided, divided)"),
    breaks="where a direction is a sign its gradient is rounding noise",
    models="noise that Adam scales up to full steps",
    applies_to="delora",
)

mutant(
    "delora_lambda_frozen",
    change(ll.DeLoRA.specs, '"lambda_": ParamSpec((1,), first_gradient="nonzero")', '"lambda_": ParamSpec((1,))'),
    breaks="λ is a buffer",
    models="a strength that is never learnt",
    applies_to="delora",
)

mutant(
    "delora_column_norms_trainable",
    change(
        ll.DeLoRA.specs,
        '"w": ParamSpec((shape.d_in,)),\n        "A0"',
        '"w": ParamSpec((shape.d_in,), first_gradient="zero"),\n        "A0"',
    ),
    breaks="w is a parameter",
    models="a constant registered as a parameter",
    applies_to="delora",
)

mutant(
    "delora_lambda_declared_to_learn_at_once_with_zero_b",
    change(
        ll.DeLoRA.specs,
        '"lambda_": ParamSpec((1,), first_gradient="zero")',
        '"lambda_": ParamSpec((1,), first_gradient="nonzero")',
    ),
    breaks="with zero_b λ's first gradient is declared nonzero and is zero",
    models="a declaration that holds for the other option",
    applies_to="delora",
)

mutant(
    "delora_direction_on_a_line_declared_to_learn",
    change(ll.DeLoRA.specs, "config.lambda_init > 0 and shape.d_in > 1", "config.lambda_init > 0"),
    breaks="where d_in = 1 A's first gradient is declared nonzero and is zero",
    models="a shape at the edge",
    applies_to="delora",
)

# Init: training starts from somewhere else than the paper says.

mutant(
    "delora_row_norms_where_square",
    change(ll.DeLoRA.initialise, "dim=0", "dim=int(layer.in_features == layer.out_features)"),
    breaks="in a square layer w holds row norms",
    models="the wrong axis; both copies agree at init",
    applies_to="delora",
)

mutant(
    "delora_one_norm_of_W",
    change(ll.DeLoRA.initialise, "read_weight(layer), dim=0,", "read_weight(layer),"),
    breaks="w is the Frobenius norm of W in every entry",
    models="the paper's formula where the code's is meant; both copies agree at init",
    applies_to="delora",
)

mutant(
    "delora_column_norms_in_the_dtype_of_W",
    change(ll.DeLoRA.initialise, ", dtype=torch.float64)", ")"),
    breaks="on a half-precision base w is rounded to half precision",
    models="a norm in whatever dtype comes along",
    applies_to="delora",
)

mutant(
    "delora_lambda_init_ignored",
    change(ll.DeLoRA.initialise, "self.config.lambda_init", "15.0"),
    breaks="λ always starts at the default",
    models="an option accepted and ignored",
    applies_to="delora",
)

mutant(
    "delora_lambda_over_r",
    change(ll.DeLoRA.initialise, "self.config.lambda_init", "self.config.lambda_init / self.config.r"),
    breaks="λ starts r times too small",
    models="a normalisation in init and forward both; both copies agree at init",
    applies_to="delora",
)

mutant(
    "delora_copy_of_lambda_not_made",
    change(ll.DeLoRA.initialise, '("lambda0", self.lambda_)', '("lambda0", self.lambda_ * 0)'),
    breaks="λ₀ = 0",
    models="a copy forgotten among three",
    applies_to="delora",
)

mutant(
    "delora_copy_drawn_anew",
    change(ll.DeLoRA.initialise, '("A0", self.A)', '("A0", torch.empty_like(self.A).uniform_(-0.3, 0.3))'),
    breaks="A₀ is another draw than A",
    models="an init called twice: no identity",
    applies_to="delora",
)

mutant(
    "delora_copy_shares_storage",
    change(
        ll.DeLoRA.initialise,
        "getattr(self, frozen).copy_(live)",
        "setattr(self, frozen, live.detach())",
    ),
    breaks="frozen copies are the live tensors' own memory and move with them",
    models="detach() taken for clone(): identity for ever",
    applies_to="delora",
)

mutant(
    "delora_zero_b_not_zero",
    change(
        ll.DeLoRA.specs,
        'ParamSpec(B, zeros, first_gradient="nonzero")',
        'ParamSpec(B, kaiming_uniform, first_gradient="nonzero")',
    ),
    breaks="with zero_b B is drawn",
    models="no identity at init with the option that has fewer tests",
    applies_to="delora",
)
