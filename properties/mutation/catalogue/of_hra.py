"""Silent failures of HRA: every term of the formula, wrong in one way or more."""

import lora_lite as ll
from lora_lite.variants import hra
from properties.mutation.mutant import change, mutant

# Forward: the output is wrong.

mutant(
    "hra_reflections_in_reverse",
    change(ll.HRA.adapt_input, "F.linear(x, P), N.mT", "F.linear(x, N), P.mT"),
    breaks="x meets H₀ first in place of H_{r−1}: R instead of Rᵀ",
    models="a product of reflections taken in the wrong order",
    applies_to="hra",
)
mutant(
    "hra_last_pair_left_out",
    change(
        ll.HRA.wy_factors, "self.U.to(torch.float64)", "self.U[: max(2, len(self.U) - 2)].to(torch.float64)"
    ),
    breaks="the last two of four or more reflections do nothing",
    models="a loop that ends early; to rounding the identity at init",
    applies_to="hra",
)
mutant(
    "hra_half_of_the_reflections",
    change(ll.HRA.wy_factors, "self.U.to(torch.float64)", "self.U[::2].to(torch.float64)"),
    breaks="one reflection a pair",
    models="rank counted in pairs by one side and in rows by the other",
    applies_to="hra",
)
mutant(
    "hra_projection_in_place_of_reflection",
    change(ll.HRA.wy_factors, "device=N.device) / 2", "device=N.device)"),
    breaks="H_i = I − u uᵀ / |u|²",
    models="the factor 2 lost",
    applies_to="hra",
)
mutant(
    "hra_rows_not_normalised",
    change(ll.HRA.wy_factors, "U / torch.where(norms == 0, 1, norms)", "U"),
    breaks="H_i = I − 2 u uᵀ",
    models="a normalisation lost",
    applies_to="hra",
)
mutant(
    "hra_rows_normalised_twice",
    change(ll.HRA.wy_factors, "torch.where(norms == 0, 1, norms)", "torch.where(norms == 0, 1, norms**2)"),
    breaks="rows are divided by their squared norms",
    models="|u|² where |u| belongs",
    applies_to="hra",
)
mutant(
    "hra_zero_row_gives_nan",
    change(ll.HRA.wy_factors, "torch.where(norms == 0, 1, norms)", "norms"),
    breaks="u = 0 divides by zero",
    models="peft's own: one zero row turns the layer into NaN",
    applies_to="hra",
)
mutant(
    "hra_norm_with_an_epsilon",
    change(ll.HRA.wy_factors, "torch.where(norms == 0, 1, norms)", "(norms + 1e-6)"),
    breaks="unit rows are 1e-6 too short, so that R is not orthogonal",
    models="a guard against zero that bends everything else",
    applies_to="hra",
)
mutant(
    "hra_neighbours_do_not_interact",
    change(ll.HRA.wy_factors, ".triu(1)", ".triu(2)"),
    breaks="T ignores the products of neighbouring rows",
    models="an index off by one in the compact form",
    applies_to="hra",
)
mutant(
    "hra_system_in_single_precision",
    change(ll.HRA.wy_factors, "self.U.to(torch.float64)", "self.U.to(at_least_float32(self.U.dtype))"),
    breaks="the r × r system is solved in float32",
    models="accuracy lost where many reflections are nearly parallel",
    applies_to="hra",
)
mutant(
    "hra_factors_in_the_adapter_dtype",
    change(
        ll.HRA.adapt_input,
        "wide = at_least_float32(torch.promote_types(self.U.dtype, x.dtype))",
        "wide = self.U.dtype",
    ),
    breaks="with a half-precision adapter N and P are rounded to half precision",
    models="large factors that nearly cancel, rounded one by one",
    applies_to="hra",
)
mutant(
    "hra_input_rounded_to_the_adapter_dtype",
    change(ll.HRA.adapt_input, "x = x.to(wide)", "x = x.to(self.U.dtype).to(wide)"),
    breaks="x passes through the adapter's dtype",
    models="x.to(adapter dtype) in a hook before the layer",
    applies_to="hra",
)

# Gradients: the output is right, what training makes of it is not.

mutant(
    "hra_norms_detached",
    change(ll.HRA.wy_factors, "torch.linalg.vector_norm(U, dim", "torch.linalg.vector_norm(U.detach(), dim"),
    breaks="norms of U are constants to the gradient, which then changes their length",
    models="a normalisation under no_grad",
    applies_to="hra",
)
mutant(
    "hra_input_detached",
    change(ll.HRA.adapt_input, "F.linear(x, P)", "F.linear(x.detach(), P)"),
    breaks="the input's gradient is not reflected back",
    models="a rotation as a side branch; right at init but for the identity's rounding",
    applies_to="hra",
)
mutant(
    "hra_system_detached",
    change(ll.HRA.wy_factors, "(N @ N.mT)", "(N @ N.mT).detach()"),
    breaks="the gradient takes the products of rows for constants",
    models="a small matrix of the compact form computed under no_grad",
    applies_to="hra",
)
mutant(
    "hra_gradient_of_one_factor_alone",
    change(ll.HRA.adapt_input, ", N.mT,", ", N.mT.detach(),"),
    breaks="half of the product rule is lost",
    models="one of two uses of a parameter detached",
    applies_to="hra",
)
mutant(
    "hra_declared_exact",
    change(ll.HRA.identity, 'return "rounding"', 'return "exact"'),
    breaks="hra is declared an identity bit for bit and is one to rounding",
    models="a promise made for all variants alike",
    applies_to="hra",
)

# Init: training starts from somewhere else than the paper says.

mutant(
    "hra_pairs_apart",
    change(hra.paired_kaiming_uniform, "half.repeat_interleave(2, dim=0)", "half.repeat(2, 1)"),
    breaks="rows come as a b a b: no identity beyond one pair",
    models="repeat for repeat_interleave",
    applies_to="hra",
)
mutant(
    "hra_rows_not_paired",
    change(
        hra.paired_kaiming_uniform,
        "tensor.copy_(half.repeat_interleave(2, dim=0))",
        "kaiming_uniform(tensor)",
    ),
    breaks="all rows are different",
    models="no identity at init",
    applies_to="hra",
)
mutant(
    "hra_pairs_all_alike",
    change(hra.paired_kaiming_uniform, "half.repeat_interleave(2, dim=0)", "half[:1].expand_as(tensor)"),
    breaks="one row r times over",
    models="a draw broadcast over the rank; the identity holds",
    applies_to="hra",
)
mutant(
    "hra_starts_at_zero",
    change(hra.paired_kaiming_uniform, "kaiming_uniform(half)", "half.zero_()"),
    breaks="U = 0, which never learns",
    models="an identity by way of zeros",
    applies_to="hra",
)
mutant(
    "hra_rows_of_unit_length",
    change(
        hra.paired_kaiming_uniform,
        "kaiming_uniform(half)",
        "kaiming_uniform(half)\n    half /= half.norm(dim=1, keepdim=True)",
    ),
    breaks="rows start at length 1: the same function, another effective learning rate",
    models="a scale that the formula ignores and the optimiser does not",
    applies_to="hra",
)
mutant(
    "hra_pairs_a_little_apart",
    change(
        hra.paired_kaiming_uniform,
        "half.repeat_interleave(2, dim=0))",
        "half.repeat_interleave(2, dim=0))\n    tensor[1::2] *= 1.01",
    ),
    breaks="the second row of a pair is one per cent longer: the same reflection",
    models="a copy that is scaled; the identity holds",
    applies_to="hra",
)
