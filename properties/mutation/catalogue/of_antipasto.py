"""Silent failures of AntiPaSTO: every term of the formula, wrong in one way or more."""

import lora_lite as ll
from lora_lite.variants import antipasto
from properties.mutation.mutant import change, mutant

# Forward: the output is wrong.

mutant(
    "antipasto_turns_V_backwards",
    change(ll.AntiPaSTO.middle, "self.rotation_minus_identity().mT", "self.rotation_minus_identity()"),
    breaks="Vh_eff = Rᵀ Vh",
    models="R and Rᵀ mixed up",
    applies_to="antipasto",
)
mutant(
    "antipasto_turns_U_backwards",
    change(ll.AntiPaSTO.middle, "self.rotation_minus_identity())\n", "self.rotation_minus_identity().mT)\n"),
    breaks="U_eff = U R",
    models="R and Rᵀ mixed up",
    applies_to="antipasto",
)
mutant(
    "antipasto_turns_V_where_U_is_wanted",
    change(
        ll.AntiPaSTO.middle,
        "(self.S.to(wide) + delta)[:, None] * block_diagonal(self.rotation_minus_identity())",
        "(self.S.to(wide) + delta) * block_diagonal(self.rotation_minus_identity())",
    ),
    breaks="rotate_basis='U' turns Vh",
    models="an option accepted and treated as another",
    applies_to="antipasto",
)
mutant(
    "antipasto_turns_U_where_V_is_wanted",
    change(
        ll.AntiPaSTO.middle,
        ".mT) * (self.S.to(wide) + delta)",
        ".mT) * (self.S.to(wide) + delta)[:, None]",
    ),
    breaks="the rotation lies between U and S",
    models="two factors that do not commute, swapped",
    applies_to="antipasto",
)
mutant(
    "antipasto_rescaling_outside_the_rotation_of_V",
    change(ll.AntiPaSTO.middle, ".mT) * (self.S.to(wide) + delta)", ".mT) * self.S.to(wide)"),
    breaks="S R + δs in place of (S + δs) R",
    models="a cross term lost: right where either part is at init",
    applies_to="antipasto",
)
mutant(
    "antipasto_rescaling_outside_the_rotation_of_U",
    change(ll.AntiPaSTO.middle, "(self.S.to(wide) + delta)[:, None]", "self.S.to(wide)[:, None]"),
    breaks="R S + δs in place of R (S + δs)",
    models="a cross term lost: right where either part is at init",
    applies_to="antipasto",
)
mutant(
    "antipasto_delta_relative_to_S",
    change(ll.AntiPaSTO.middle, "self.delta_s.to(wide)", "(self.S * self.delta_s).to(wide)"),
    breaks="S (1 + δs)",
    models="a relative change where an absolute one is meant",
    applies_to="antipasto",
)
mutant(
    "antipasto_delta_doubled",
    change(ll.AntiPaSTO.middle, "self.delta_s.to(wide)", "2 * self.delta_s.to(wide)"),
    breaks="S + 2 δs",
    models="a term counted by init and forward both",
    applies_to="antipasto",
)
mutant(
    "antipasto_skew_not_halved",
    change(ll.AntiPaSTO.rotation_minus_identity, "bound / 2 * torch.tanh", "bound * torch.tanh"),
    breaks="X = K",
    models="Cayley's map without its 1/2: twice the angle",
    applies_to="antipasto",
)
mutant(
    "antipasto_skew_part_not_halved",
    change(ll.AntiPaSTO.rotation_minus_identity, "(2 * bound)", "bound"),
    breaks="K = a tanh((T − Tᵀ) / a)",
    models="the skew part without its 1/2",
    applies_to="antipasto",
)
mutant(
    "antipasto_skew_unbounded",
    change(
        ll.AntiPaSTO.rotation_minus_identity,
        "bound / 2 * torch.tanh((T - T.mT) / (2 * bound))",
        "(T - T.mT) / 4",
    ),
    breaks="K = ½ (T − Tᵀ)",
    models="a bound lost: the same to first order",
    applies_to="antipasto",
)
mutant(
    "antipasto_bound_is_max_skew_itself",
    change(
        ll.AntiPaSTO.rotation_minus_identity, "2 * math.tan(self.config.max_skew / 2)", "self.config.max_skew"
    ),
    breaks="a = max_skew",
    models="an angle for its tangent: 2 % off",
    applies_to="antipasto",
)
mutant(
    "antipasto_max_skew_ignored",
    change(ll.AntiPaSTO.rotation_minus_identity, "self.config.max_skew", "0.5"),
    breaks="max_skew is always the default",
    models="an option accepted and ignored",
    applies_to="antipasto",
)
mutant(
    "antipasto_cayley_sign",
    change(ll.AntiPaSTO.rotation_minus_identity, "- X, 2 * X)", "+ X, 2 * X)"),
    breaks="R = I + (I + X)⁻¹ 2 X, which is no rotation",
    models="a sign in the inverse: the same to first order",
    applies_to="antipasto",
)
mutant(
    "antipasto_rotation_to_first_order",
    change(
        ll.AntiPaSTO.rotation_minus_identity,
        "Q: Tensor = torch.linalg.solve(torch.eye(block, dtype=X.dtype, device=X.device) - X, 2 * X)",
        "Q: Tensor = 2 * X",
    ),
    breaks="R = I + K",
    models="a solve left out: the same to first order",
    applies_to="antipasto",
)
mutant(
    "antipasto_exponential_for_cayley",
    change(
        ll.AntiPaSTO.rotation_minus_identity,
        "torch.linalg.solve(torch.eye(block, dtype=X.dtype, device=X.device) - X, 2 * X)",
        "torch.linalg.matrix_exp(2 * X) - torch.eye(block, dtype=X.dtype, device=X.device)",
    ),
    breaks="R = exp(K)",
    models="another map to rotations: orthogonal, and the same to second order",
    applies_to="antipasto",
)
mutant(
    "antipasto_skew_read_by_columns",
    change(
        ll.AntiPaSTO.rotation_minus_identity,
        "torch.triu_indices(block, block, offset=1, device=rot.device)",
        "torch.tril_indices(block, block, offset=-1, device=rot.device).flip(0)",
    ),
    breaks="rot fills the upper triangle by columns",
    models="another packing of the same numbers: equal for blocks of 2",
    applies_to="antipasto",
)
mutant(
    "antipasto_one_rotation_for_all_blocks",
    change(antipasto.block_diagonal, "blocks.permute", "blocks[:1].expand_as(blocks).permute"),
    breaks="every block turns as the first",
    models="broadcasting over blocks: right where there is one",
    applies_to="antipasto",
)
mutant(
    "antipasto_blocks_interleaved",
    change(antipasto.block_diagonal, ".permute(2, 0, 3, 1)", ".permute(0, 2, 1, 3)"),
    breaks="block i holds every (r/block)-th direction",
    models="a view with its two factors swapped: right where there is one block",
    applies_to="antipasto",
)
mutant(
    "antipasto_middle_by_subtraction",
    change(
        ll.AntiPaSTO.middle,
        "M = M + block_diagonal(self.rotation_minus_identity().mT) * (self.S.to(wide) + delta)",
        "R = torch.eye(len(M), device=M.device) + block_diagonal(self.rotation_minus_identity().mT)\n"
        "        M = R * (self.S.to(wide) + delta) - torch.diag(self.S.to(wide))",
    ),
    breaks="Rᵀ (S + δs) − S is taken as a difference of two large terms",
    models="cancellation near init, where steps are small; bit-exact at init",
    applies_to="antipasto",
)

# Gradients: the output is right, what training makes of it is not.

mutant(
    "antipasto_rescaling_detached",
    change(ll.AntiPaSTO.middle, "self.delta_s.to(wide)", "self.delta_s.detach().to(wide)"),
    breaks="δs gets no gradient",
    models="a rescale that never learns",
    applies_to="antipasto",
)
mutant(
    "antipasto_rescaling_detached_inside_the_rotation",
    change(
        ll.AntiPaSTO.middle, ".mT) * (self.S.to(wide) + delta)", ".mT) * (self.S.to(wide) + delta.detach())"
    ),
    breaks="δs's gradient misses the cross term",
    models="a gradient that is right as long as the rotation is at init",
    applies_to="antipasto",
)
mutant(
    "antipasto_input_detached",
    change(ll.AntiPaSTO.adapt_output, "F.linear(x.to(", "F.linear(x.detach().to("),
    breaks="the input's gradient misses the adapter's part",
    models="layers further down train against a base that is no longer there",
    applies_to="antipasto",
)
mutant(
    "antipasto_computed_in_the_base_dtype",
    change(
        ll.AntiPaSTO.adapt_output,
        "h @ self.middle().to(h.dtype), self.U",
        "h.to(x.dtype) @ self.middle().to(x.dtype), self.U.to(x.dtype)",
    ),
    breaks="float32 factors are rounded to a half-precision base before they meet x",
    models="the adapter's dtype ignored in the one place where it counts",
    applies_to="antipasto",
)
mutant(
    "antipasto_rotation_detached",
    change(ll.AntiPaSTO.rotation_minus_identity, "rot = self.rot.to(", "rot = self.rot.detach().to("),
    breaks="rot gets no gradient",
    models="a rotation that never turns",
    applies_to="antipasto",
)
mutant(
    "antipasto_solve_detached",
    change(ll.AntiPaSTO.rotation_minus_identity, "device=X.device) - X,", "device=X.device) - X.detach(),"),
    breaks="the gradient takes the inverse for a constant",
    models="a gradient that is right as long as the rotation is at init",
    applies_to="antipasto",
)
mutant(
    "antipasto_bound_straight_through",
    change(
        ll.AntiPaSTO.rotation_minus_identity,
        "bound / 2 * torch.tanh((T - T.mT) / (2 * bound))",
        "bound / 2 * ((Z := (T - T.mT) / (2 * bound)) + (torch.tanh(Z) - Z).detach())",
    ),
    breaks="the gradient ignores the bound",
    models="a straight-through estimate; right at init",
    applies_to="antipasto",
)
mutant(
    "antipasto_half_of_the_skew_part_detached",
    change(ll.AntiPaSTO.rotation_minus_identity, "(T - T.mT)", "(T - T.mT.detach())"),
    breaks="rot's gradient sees the upper triangle alone",
    models="a symmetric use of a parameter differentiated once",
    applies_to="antipasto",
)
mutant(
    "antipasto_rescaling_frozen",
    change(ll.AntiPaSTO.specs, 'ParamSpec((r,), zeros, first_gradient="nonzero")', "ParamSpec((r,), zeros)"),
    breaks="δs is a buffer",
    models="a trainable tensor registered as a constant",
    applies_to="antipasto",
)
mutant(
    "antipasto_singular_values_trainable",
    change(ll.AntiPaSTO.specs, '"S": ParamSpec((r,))', '"S": ParamSpec((r,), first_gradient="zero")'),
    breaks="S is a parameter",
    models="a constant registered as a parameter: at init its gradient is exactly zero",
    applies_to="antipasto",
)

# Init: training starts from somewhere else than the paper says.

mutant(
    "antipasto_bottom_directions",
    change(
        ll.AntiPaSTO.initialise,
        "torch.arange(r, device=S.device)",
        "torch.arange(len(S) - r, len(S), device=S.device)",
    ),
    breaks="without calibration the r smallest singular values in place of the largest",
    models="ascending taken for descending; the identity holds",
    applies_to="antipasto",
)
mutant(
    "antipasto_directions_in_reverse",
    change(
        ll.AntiPaSTO.initialise,
        "torch.arange(r, device=S.device)",
        "torch.arange(r, device=S.device).flip(0)",
    ),
    breaks="the r largest singular values, smallest first: other pairs turn together",
    models="an order that only the blocks see",
    applies_to="antipasto",
)
mutant(
    "antipasto_singular_values_in_reverse",
    change(ll.AntiPaSTO.initialise, "self.S.copy_(S[chosen])", "self.S.copy_(S[chosen.flip(0)])"),
    breaks="each direction has another's singular value",
    models="triplets that are sorted one by one; the identity holds",
    applies_to="antipasto",
)
mutant(
    "antipasto_right_vectors_not_chosen",
    change(ll.AntiPaSTO.initialise, "Vh[chosen]", "Vh[:r]"),
    breaks="with calibration U and S are those chosen and Vh the first r",
    models="a selection applied to two of three; the identity holds",
    applies_to="antipasto",
)
mutant(
    "antipasto_left_vectors_of_another_sign",
    change(ll.AntiPaSTO.initialise, "self.U.copy_(U[:, chosen])", "self.U.copy_(U[:, chosen].abs())"),
    breaks="U has lost its signs",
    models="a basis that is none; the identity holds",
    applies_to="antipasto",
)
mutant(
    "antipasto_singular_values_squared",
    change(ll.AntiPaSTO.initialise, "self.S.copy_(S[chosen])", "self.S.copy_(S[chosen] ** 2)"),
    breaks="S²",
    models="eigenvalues of WᵀW taken for singular values of W; the identity holds",
    applies_to="antipasto",
)
mutant(
    "antipasto_svd_of_a_rounded_weight",
    change(antipasto.singular_triplets, "weight.to(at", "weight.bfloat16().to(at"),
    breaks="the singular vectors of W rounded to bfloat16",
    models="a decomposition taken after the model was cast for inference",
    applies_to="antipasto",
)
mutant(
    "antipasto_calibration_ignored",
    change(ll.AntiPaSTO.initialise, "if statistics is None:", "if True:"),
    breaks="the r largest singular values whatever the data",
    models="calibration data read and ignored",
    applies_to="antipasto",
)
mutant(
    "antipasto_selection_with_signs",
    change(antipasto.ProjectionSizes.update, ".abs().sum(0)", ".sum(0)"),
    breaks="directions are chosen by S_i · mean(x · v_i)",
    models="a lost absolute value: the solver's signs decide",
    applies_to="antipasto",
)
mutant(
    "antipasto_selection_by_the_mean",
    change(antipasto.ProjectionSizes.update, ".abs().sum(0)", ".sum(0).abs()"),
    breaks="directions are chosen by S_i · |mean(x · v_i)|",
    models="mean and absolute value swapped: what cancels over tokens counts as unused",
    applies_to="antipasto",
)
mutant(
    "antipasto_selection_without_S",
    change(antipasto.ProjectionSizes.strongest, "self.S * self.total", "self.total"),
    breaks="directions are chosen by mean|x · v_i|",
    models="half of a score",
    applies_to="antipasto",
)
mutant(
    "antipasto_selection_of_the_weakest",
    change(antipasto.ProjectionSizes.strongest, "descending=True", "descending=False"),
    breaks="the r weakest directions",
    models="ascending taken for descending",
    applies_to="antipasto",
)
mutant(
    "antipasto_selection_by_the_last_batch",
    change(antipasto.ProjectionSizes.update, "self.total += ", "self.total = "),
    breaks="only the last batch counts",
    models="an assignment where a sum is meant",
    applies_to="antipasto",
)
mutant(
    "antipasto_rotation_noisy",
    change(
        ll.AntiPaSTO.specs,
        "block * (block - 1) // 2), zeros, first",
        "block * (block - 1) // 2), lambda t: t.uniform_(-1e-3, 1e-3), first",
    ),
    breaks="rot starts a thousandth off",
    models="the authors' small noise where exact zeros are promised",
    applies_to="antipasto",
)
mutant(
    "antipasto_rescaling_of_ones",
    change(ll.AntiPaSTO.specs, "ParamSpec((r,), zeros,", "ParamSpec((r,), nn.init.ones_,"),
    breaks="δs starts at 1",
    models="an init of a factor given to an addend",
    applies_to="antipasto",
)
