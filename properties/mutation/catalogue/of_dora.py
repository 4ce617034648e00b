"""Silent failures of DoRA: every term of the formula, wrong in one way or more."""

import lora_lite as ll
from properties.mutation.mutant import change, mutant

# Forward: the output is wrong.

mutant(
    "dora_scale_lost_in_the_update",
    change(ll.DoRA.adapt_output, "self.A, self.B, self.scale)", "self.A, self.B)"),
    breaks="s is in the norm and not in the update",
    models="one of two places",
    applies_to="dora",
)
mutant(
    "dora_scale_lost_in_the_norm",
    change(ll.DoRA.row_norms, "alpha=self.scale", "alpha=1.0"),
    breaks="n = row norms of W + B A",
    models="one of two places",
    applies_to="dora",
)
mutant(
    "dora_scale_lost_in_both",
    change(ll.DoRA.adapt_output, "self.A, self.B, self.scale)", "self.A, self.B)"),
    change(ll.DoRA.row_norms, "alpha=self.scale", "alpha=1.0"),
    breaks="alpha does nothing at all",
    models="two losses that agree with each other",
    applies_to="dora",
)
mutant(
    "dora_norm_of_W_alone",
    change(
        ll.DoRA.row_norms,
        "torch.addmm(w.to(wide), b, A, alpha=self.scale).norm(dim=1)",
        "w.to(wide).norm(dim=1)",
    ),
    breaks="n does not see the update",
    models="a norm computed once at attach; right at init",
    applies_to="dora",
)
mutant(
    "dora_norm_of_columns_where_square",
    change(ll.DoRA.row_norms, ".norm(dim=1)", ".norm(dim=int(W.shape[0] != W.shape[1]))"),
    breaks="in a square layer n holds column norms",
    models="a transposed weight convention",
    applies_to="dora",
)
mutant(
    "dora_all_norms_of_columns_where_square",
    change(ll.DoRA.row_norms, ".norm(dim=1)", ".norm(dim=int(W.shape[0] != W.shape[1]))"),
    change(ll.DoRA.initialise, "dim=1", "dim=int(layer.in_features != layer.out_features)"),
    breaks="in a square layer n and m both hold column norms",
    models="the wrong axis used consistently: m = n at init",
    applies_to="dora",
)
mutant(
    "dora_norm_squared",
    change(ll.DoRA.row_norms, ".norm(dim=1)", ".square().sum(dim=1)"),
    change(ll.DoRA.initialise, "dtype=self._wide(W)))", "dtype=self._wide(W)).square())"),
    breaks="n and m are squared norms",
    models="a missing root, used consistently",
    applies_to="dora",
)
mutant(
    "dora_squares_in_half_precision",
    change(ll.DoRA.row_norms, "self._wide(W)", "self.A.dtype"),
    change(ll.DoRA.row_norms, ".norm(dim=1)", ".square().sum(dim=1).sqrt()"),
    breaks="in float16 the squares of a long row overflow",
    models="a sum of squares in the dtype at hand",
    applies_to="dora",
)
mutant(
    "dora_norm_with_an_epsilon",
    change(ll.DoRA.row_norms, "torch.where(n == 0, 1, n)", "n + 1e-6"),
    breaks="n is 1e-6 too large",
    models="a guard against zero that bends everything else",
    applies_to="dora",
)
mutant(
    "dora_norm_floored_at_one",
    change(ll.DoRA.row_norms, "torch.where(n == 0, 1, n)", "n.clamp(min=1)"),
    breaks="rows shorter than 1 count as 1 long",
    models="a guard against zero that is far too wide",
    applies_to="dora",
)
mutant(
    "dora_zero_rows_divide_by_zero",
    change(ll.DoRA.row_norms, "torch.where(n == 0, 1, n)", "n"),
    breaks="a zero row gives NaN",
    models="peft's own: pruned rows turn the loss into NaN",
    applies_to="dora",
)
mutant(
    "dora_norm_in_the_dtype_of_W",
    change(ll.DoRA.row_norms, "self._wide(W)", "W.dtype"),
    breaks="on a half-precision base n is computed in half precision",
    models="a norm in whatever dtype comes along",
    applies_to="dora",
)
mutant(
    "dora_bias_scaled",
    change(ll.DoRA.adapt_output, "bias * (1 - ratio)", "bias * torch.zeros_like(ratio)"),
    breaks="the bias is scaled with the rest",
    models="a magnitude applied to the layer's whole output; right at init",
    applies_to="dora",
)
mutant(
    "dora_bias_added_twice",
    change(ll.DoRA.adapt_output, "bias * (1 - ratio)", "bias * torch.ones_like(ratio)"),
    breaks="the bias is scaled, and added once more",
    models="an output taken to be without bias",
    applies_to="dora",
)
mutant(
    "dora_bias_dropped",
    change(ll.DoRA.adapt_output, "bias * (1 - ratio)", "-bias * ratio"),
    breaks="the bias is taken away and not given back",
    models="half of a correction",
    applies_to="dora",
)
mutant(
    "dora_ratio_inverted",
    change(ll.DoRA.adapt_output, "self.m / self.row_norms(layer)", "self.row_norms(layer) / self.m"),
    breaks="n/m",
    models="a quotient upside down; 1 at init",
    applies_to="dora",
)
mutant(
    "dora_magnitude_on_the_update_alone",
    change(
        ll.DoRA.adapt_output,
        "y = add_low_rank(y, x, self.A, self.B, self.scale)",
        "return y + ratio * add_low_rank(torch.zeros_like(y), x, self.A, self.B, self.scale)",
    ),
    breaks="y + m/n ∘ update",
    models="DoRA as LoRA with a learnt scale; bit-exact at init",
    applies_to="dora",
)
mutant(
    "dora_magnitude_on_the_base_alone",
    change(
        ll.DoRA.adapt_output,
        "return y * ratio",
        "return y + (ratio - 1) * torch.nn.functional.linear(x, layer.weight)",
    ),
    breaks="without a bias the update is not rescaled",
    models="a correction that forgets the new part, in the branch without bias",
    applies_to="dora",
)

# Gradients: the output is right, what training makes of it is not.

mutant(
    "dora_gradient_through_the_norm",
    change(ll.DoRA.adapt_output, "self.row_norms(layer)", "type(self).row_norms.__wrapped__(self, layer)"),
    breaks="A and B get a gradient through n as well",
    models="section 4.3 of the paper overlooked: the forward pass is the same",
    applies_to="dora",
)
mutant(
    "dora_magnitude_detached",
    change(ll.DoRA.adapt_output, "self.m / ", "self.m.detach() / "),
    breaks="m gets no gradient",
    models="the ratio computed without gradients, m and all",
    applies_to="dora",
)
mutant(
    "dora_ratio_lost_on_the_way_back",
    change(
        ll.DoRA.adapt_output,
        "torch.addcmul(bias * (1 - ratio), y, ratio)",
        "torch.addcmul(bias * (1 - ratio), y.detach(), ratio) + y - y.detach()",
    ),
    breaks="where there is a bias, gradients of x, A and B are not scaled by m/n",
    models="a straight-through estimate; right at init",
    applies_to="dora",
)
mutant(
    "dora_bias_term_detached",
    change(ll.DoRA.adapt_output, "bias * (1 - ratio)", "bias * (1 - ratio.detach())"),
    breaks="m's gradient counts the bias as scaled",
    models="a correction term outside the graph",
    applies_to="dora",
)
mutant(
    "dora_magnitude_frozen",
    change(ll.DoRA.specs, 'ParamSpec((shape.d_out,), first_gradient="nonzero")', "ParamSpec((shape.d_out,))"),
    breaks="m is a buffer",
    models="a trainable tensor registered as a constant: LoRA with weight normalisation",
    applies_to="dora",
)

# Init: training starts from somewhere else than the paper says.

mutant(
    "dora_magnitude_of_ones",
    change(
        ll.DoRA.initialise,
        "torch.linalg.vector_norm(W, dim=1, dtype=self._wide(W))",
        "torch.ones_like(self.m)",
    ),
    breaks="m = 1",
    models="no identity at init",
    applies_to="dora",
)
mutant(
    "dora_magnitude_of_columns_where_square",
    change(ll.DoRA.initialise, "dim=1", "dim=int(layer.in_features != layer.out_features)"),
    breaks="in a square layer m holds column norms",
    models="the wrong axis, visible only where shapes happen to fit",
    applies_to="dora",
)
mutant(
    "dora_magnitude_in_the_dtype_of_W",
    change(ll.DoRA.initialise, ", dtype=self._wide(W))", ")"),
    breaks="on a half-precision base m is rounded to half precision",
    models="a norm in whatever dtype comes along",
    applies_to="dora",
)
mutant(
    "dora_magnitude_wider_than_its_norms",
    change(ll.DoRA.initialise, "dtype=self._wide(W)", "dtype=torch.float64"),
    breaks="a base whose squares overflow float32 is taken, and every output is the bias: m is finite, n is not",
    models="a check at attach that looks at other numbers than the forward",
    applies_to="dora",
)
mutant(
    "dora_B_not_zero",
    change(ll.DoRA.specs, "zeros, first", "kaiming_uniform, first"),
    breaks="no identity at init",
    models="both factors drawn alike",
    applies_to="dora",
)
