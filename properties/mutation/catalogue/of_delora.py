"""Silent failures of DeLoRA: every term of the formula, wrong in one way or more."""

import lora_lite as ll
from lora_lite.variants import delora
from properties.mutation.mutant import change, mutant

# Forward: the output is wrong.

mutant(
    "delora_strength_without_r",
    change(ll.DeLoRA.adapt_output, ", 1 / self.config.r)", ")"),
    breaks="λ in place of λ/r",
    models="a normalisation lost; both copies agree at init",
    applies_to="delora",
)
mutant(
    "delora_strength_by_the_root_of_r",
    change(ll.DeLoRA.adapt_output, "1 / self.config.r)", "1 / self.config.r**0.5)"),
    breaks="λ/√r",
    models="another paper's rule",
    applies_to="delora",
)
mutant(
    "delora_lambda_on_the_difference",
    change(ll.DeLoRA.adapt_output, "self.lambda0.expand", "self.lambda_.expand"),
    breaks="the frozen copy is scaled by the live λ",
    models="the authors' code: λ has no first gradient",
    applies_to="delora",
)
mutant(
    "delora_copy_not_subtracted",
    change(ll.DeLoRA.adapt_output, "-self.lambda0", "0 * self.lambda0"),
    breaks="nothing is subtracted",
    models="no identity at init",
    applies_to="delora",
)
mutant(
    "delora_zero_b_strength_without_r",
    change(ll.DeLoRA.adapt_output, "1 / self.config.r)", "1 / (self.config.r if floor == 0 else 1))"),
    breaks="with zero_b the strength is λ",
    models="an option's branch with another normalisation; bit-exact at init",
    applies_to="delora",
)
mutant(
    "delora_column_norms_lost",
    change(ll.DeLoRA.adapt_output, "A * self.w", "A"),
    breaks="w is not there",
    models="a term lost; both copies agree at init",
    applies_to="delora",
)
mutant(
    "delora_column_norms_squared",
    change(ll.DeLoRA.adapt_output, "A * self.w", "A * self.w**2"),
    breaks="w²",
    models="a norm applied by init and forward both",
    applies_to="delora",
)
mutant(
    "delora_A_not_normalised",
    change(ll.DeLoRA.adapt_output, "(A_norms * B_norms)", "B_norms"),
    breaks="c = 1 / |B_i|",
    models="half of a normalisation",
    applies_to="delora",
)
mutant(
    "delora_B_not_normalised",
    change(ll.DeLoRA.adapt_output, "(A_norms * B_norms)", "A_norms"),
    breaks="c = 1 / |A_i|",
    models="half of a normalisation",
    applies_to="delora",
)
mutant(
    "delora_B_normalised_by_rows",
    change(
        ll.DeLoRA.adapt_output,
        "(B, B_norms) = direction(A, 1, floor), direction(B, 0, floor)",
        "(B, B_norms) = direction(A, 1, floor), (torch.nn.functional.normalize(B, dim=1), torch.ones(()))",
    ),
    breaks="rows of B have unit norm, not its columns",
    models="the wrong axis",
    applies_to="delora",
)
mutant(
    "delora_A_normalised_by_columns",
    change(
        ll.DeLoRA.adapt_output,
        "(A, A_norms), (B, B_norms) = direction(A, 1, floor)",
        "(A, A_norms), (B, B_norms) = (torch.nn.functional.normalize(A, dim=0), torch.ones(()))",
    ),
    breaks="columns of A have unit norm, not its rows",
    models="the wrong axis",
    applies_to="delora",
)
mutant(
    "delora_normalised_as_a_whole",
    change(
        delora.direction,
        "norm = torch.linalg.vector_norm(v, dim=dim, dtype=at_least_float32(v.dtype))",
        "norm = torch.linalg.vector_norm(v, dtype=at_least_float32(v.dtype)).expand(v.shape[1 - dim])",
    ),
    breaks="A and B are divided by their Frobenius norms",
    models="a norm without dim; right at rank 1",
    applies_to="delora",
)
mutant(
    "delora_norm_squared",
    change(
        delora.direction,
        "norm = torch.linalg.vector_norm(v, dim=dim, dtype=at_least_float32(v.dtype))",
        "norm = v.square().sum(dim, dtype=at_least_float32(v.dtype))",
    ),
    breaks="rows are divided by their squared norms",
    models="a missing root",
    applies_to="delora",
)
mutant(
    "delora_floor_lost",
    change(ll.DeLoRA.adapt_output, "floor = ZERO_B_NORM_FLOOR", "floor = 0.0"),
    breaks="with zero_b no norm is floored: B = 0 counts as norm 1",
    models="peft's constant not reproduced; bit-exact at init, B's first gradient 1e4 times too small",
    applies_to="delora",
)
mutant(
    "delora_floor_in_every_mode",
    change(ll.DeLoRA.adapt_output, "dim=1), 0.0", "dim=1), ZERO_B_NORM_FLOOR"),
    breaks="frozen_copy floors norms at 1e-4 as well",
    models="a guard in a mode that needs none: short rows of A lose their strength",
    applies_to="delora",
)
mutant(
    "delora_floor_added",
    change(delora.direction, "norm.clamp(min=floor)", "norm + floor"),
    breaks="|A_i| + 1e-4 in place of the larger of the two",
    models="clamp written as a sum",
    applies_to="delora",
)
mutant(
    "delora_zero_norm_divides_by_zero",
    change(delora.direction, "torch.where(norm == 0, 1.0, norm)", "norm"),
    breaks="with frozen_copy a zero row gives NaN",
    models="a guard that one of two options lacks",
    applies_to="delora",
)
mutant(
    "delora_computed_in_the_base_dtype",
    change(
        ll.DeLoRA.adapt_output,
        "F.linear(x.to(A.dtype), A * self.w)",
        "F.linear(x, (A * self.w).to(x.dtype)).to(A.dtype)",
    ),
    breaks="float32 factors are rounded to a half-precision base before they meet x",
    models="the adapter's dtype ignored in the one place where it counts",
    applies_to="delora",
)
mutant(
    "delora_strength_over_the_norms_in_half_precision",
    change(
        ll.DeLoRA.adapt_output, "/ (A_norms * B_norms)", "/ (A_norms * B_norms)\n    c = c.to(self.A.dtype)"
    ),
    breaks="in float16 short rows give Inf times 0, and NaN",
    models="a factor rounded before what it multiplies makes it small again",
    applies_to="delora",
)
mutant(
    "delora_gradients_meet_in_half_precision",
    change(ll.DeLoRA.adapt_output, "v.float() if v.dtype == torch.float16 else v for v", "v for v"),
    breaks="in float16 the terms of a direction's gradient overflow, whose difference does not",
    models="a sum of gradients, taken by the engine in the dtype of the leaf",
    applies_to="delora",
)

# Gradients: the output is right, what training makes of it is not.

mutant(
    "delora_norms_detached",
    change(delora.direction, "torch.linalg.vector_norm(v, dim", "torch.linalg.vector_norm(v.detach(), dim"),
    breaks="norms of A and B are constants to the gradient, which then changes their length",
    models="DoRA's rule taken over",
    applies_to="delora",
)
mutant(
    "delora_lambda_detached",
    change(ll.DeLoRA.adapt_output, "strength.to(A", "strength.detach().to(A"),
    breaks="λ gets no gradient",
    models="a strength that is never learnt; with zero_b its first gradient is zero anyway",
    applies_to="delora",
)
mutant(
    "delora_lambda_detached_with_zero_b",
    change(ll.DeLoRA.adapt_output, "strength.to(A", "(strength if floor == 0 else strength.detach()).to(A"),
    breaks="with zero_b λ gets no gradient",
    models="the option that has fewer tests; the first gradient is zero anyway",
    applies_to="delora",
)
mutant(
    "delora_A_detached",
    change(ll.DeLoRA.adapt_output, "for v in (self.A, ", "for v in (self.A.detach(), "),
    breaks="A gets no gradient",
    models="a direction that never turns",
    applies_to="delora",
)
mutant(
    "delora_sign_has_a_gradient_on_a_line",
    change(delora.direction, "v.sign(), v)", "v / size.unsqueeze(dim), v)"),
    breaks="where a direction is a sign its gradient is rounding noise",
    models="noise that Adam scales up to full steps",
    applies_to="delora",
)
mutant(
    "delora_input_detached",
    change(ll.DeLoRA.adapt_output, "F.linear(x.to(", "F.linear(x.detach().to("),
    breaks="the input's gradient misses the adapter's part",
    models="layers further down train against a base that is no longer there",
    applies_to="delora",
)
mutant(
    "delora_lambda_frozen",
    change(
        ll.DeLoRA.specs, '"lambda_": ParamSpec((1,), first_gradient="nonzero")', '"lambda_": ParamSpec((1,))'
    ),
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
    change(delora.column_norms, "torch.split(W,", "torch.split(W if W.shape[0] != W.shape[1] else W.mT,"),
    breaks="in a square layer w holds row norms",
    models="the wrong axis; both copies agree at init",
    applies_to="delora",
)
mutant(
    "delora_one_norm_of_W",
    change(delora.column_norms, ".sum(0).sqrt()", ".sum().sqrt()"),
    breaks="w is the Frobenius norm of W in every entry",
    models="the paper's formula where the code's is meant; both copies agree at init",
    applies_to="delora",
)
mutant(
    "delora_column_norms_in_the_dtype_of_W",
    change(delora.column_norms, "block.to(dtype)", "block"),
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
