"""Silent failures of (IA)³, on outputs and on inputs: every term of the formula, wrong in one way or more."""

import lora_lite as ll
from lora_lite.variants import gate
from properties.mutation.mutant import change, mutant

# Forward: the output is wrong.

mutant(
    "ia3_gate_twice",
    change(ll.IA3.adapt_output, "gated(y, self.offset)", "gated(y, 2 * self.offset + self.offset**2)"),
    breaks="y ∘ g²",
    models="a gate applied by two hooks",
    applies_to="ia3",
)
mutant(
    "ia3_bias_not_gated",
    change(
        ll.IA3.adapt_output,
        "gated(y, self.offset)",
        "gated(y, self.offset) - (0 if layer.bias is None else layer.bias * self.offset)",
    ),
    breaks="the gate spares the bias",
    models="a gate folded into the weight alone",
    applies_to="ia3",
)
mutant(
    "ia3_gate_without_the_one",
    change(ll.IA3.adapt_output, "gated(y, self.offset)", "y * self.offset"),
    change(ll.IA3.specs, "zeros, first", "nn.init.ones_, first"),
    breaks="the tensor is the gate itself and starts at one",
    models="the parametrisation that half precision cannot train; an identity at init all the same",
    applies_to="ia3",
)
mutant(
    "ia3_gate_exponential",
    change(ll.IA3.adapt_output, "gated(y, self.offset)", "gated(y, self.offset.expm1())"),
    breaks="g = exp(offset)",
    models="another parametrisation: identity and first gradient are the same",
    applies_to="ia3",
)
mutant(
    "gate_rounded_in_half_precision",
    change(gate.gated, "offset.dtype.itemsize < max(4, v.dtype.itemsize)", "False"),
    breaks="1 + offset is rounded to the adapter's dtype",
    models="a bfloat16 gate that small steps never move",
    applies_to=("ia3", "ia3_ff"),
)
mutant(
    "gate_rounded_under_a_finer_base",
    change(gate.gated, "max(4, v.dtype.itemsize)", "4"),
    breaks="1 + offset in float32 meets a float64 base",
    models="a sum taken in the coarser dtype of two",
    applies_to=("ia3", "ia3_ff"),
)
mutant(
    "gate_without_the_one_in_full_precision",
    change(gate.gated, "v * (1 + offset)", "v * offset"),
    breaks="with a float32 adapter the gate starts at zero",
    models="two parametrisations in two branches",
    applies_to=("ia3", "ia3_ff"),
)
mutant(
    "gate_as_a_side_branch_in_half_precision",
    change(gate.gated, "torch.addcmul(v, v, offset)", "torch.addcmul(v, v.detach(), offset)"),
    breaks="with a half-precision adapter the gradient of what is gated is not gated",
    models="a branch that float32 tests never enter; right at init",
    applies_to=("ia3", "ia3_ff"),
)
mutant(
    "ia3_base_rounded_to_the_adapter_dtype",
    change(ll.IA3.adapt_output, "gated(y, self.offset)", "(z := y.to(self.offset.dtype)) + z * self.offset"),
    breaks="the base output passes through the adapter's dtype",
    models="y.to(adapter dtype) to make a product fit",
    applies_to="ia3",
)
mutant(
    "ia3_gates_the_input_where_square",
    change(
        ll.IA3.adapt_output,
        "gated(y, self.offset)",
        "gated(y, self.offset) if self.shape.d_in != self.shape.d_out else layer.forward(x + x * self.offset.to(x.dtype))",
    ),
    breaks="in a square layer the gate is on the input",
    models="the two kinds of layer of the paper mixed up",
    applies_to="ia3",
)
mutant(
    "ia3_ff_gate_twice",
    change(ll.IA3FF.adapt_input, "gated(x, self.offset)", "gated(x, 2 * self.offset + self.offset**2)"),
    breaks="x ∘ g²",
    models="a gate applied by two hooks",
    applies_to="ia3_ff",
)
mutant(
    "ia3_ff_gate_exponential",
    change(ll.IA3FF.adapt_input, "gated(x, self.offset)", "gated(x, self.offset.expm1())"),
    breaks="g = exp(offset)",
    models="another parametrisation: identity and first gradient are the same",
    applies_to="ia3_ff",
)
mutant(
    "ia3_ff_input_rounded_to_the_adapter_dtype",
    change(ll.IA3FF.adapt_input, "gated(x, self.offset)", "(z := x.to(self.offset.dtype)) + z * self.offset"),
    breaks="x passes through the adapter's dtype",
    models="x.to(adapter dtype) in a hook before the layer",
    applies_to="ia3_ff",
)
mutant(
    "ia3_ff_gate_in_reverse",
    change(ll.IA3FF.adapt_input, "gated(x, self.offset)", "gated(x, self.offset.flip(0))"),
    breaks="feature i is gated by entry d_in − 1 − i",
    models="features in another order than their gate",
    applies_to="ia3_ff",
)

# Gradients: the output is right, what training makes of it is not.

mutant(
    "ia3_base_detached",
    change(ll.IA3.adapt_output, "gated(y, self.offset)", "y + y.detach() * self.offset"),
    breaks="the input's gradient is not gated",
    models="a gate as a side branch; right at init",
    applies_to="ia3",
)
mutant(
    "ia3_gradient_of_the_base_alone",
    change(ll.IA3.adapt_output, "gated(y, self.offset)", "gated(y, self.offset.detach())"),
    breaks="the gate gets no gradient",
    models="a gate taken for a constant",
    applies_to="ia3",
)
mutant(
    "ia3_ff_input_detached",
    change(ll.IA3FF.adapt_input, "gated(x, self.offset)", "x + x.detach() * self.offset"),
    breaks="the input's gradient is not gated",
    models="a gate as a side branch; right at init",
    applies_to="ia3_ff",
)
mutant(
    "ia3_ff_gradient_lost",
    change(ll.IA3FF.adapt_input, "gated(x, self.offset)", "x.detach() + x * self.offset"),
    breaks="the input's gradient is the gate's offset alone: zero at init",
    models="a base input outside the graph: layers further down learn nothing",
    applies_to="ia3_ff",
)

# Init: training starts from somewhere else than the paper says.

mutant(
    "ia3_offset_of_ones",
    change(ll.IA3.specs, "zeros, first", "nn.init.ones_, first"),
    breaks="the gate starts at 2",
    models="a gate's init in a parametrisation by its offset",
    applies_to="ia3",
)
mutant(
    "ia3_ff_offset_of_ones",
    change(ll.IA3FF.specs, "zeros, first", "lambda t: t.fill_(1.0), first"),
    breaks="the gate starts at 2",
    models="a gate's init in a parametrisation by its offset",
    applies_to="ia3_ff",
)
mutant(
    "ia3_ff_offset_noisy",
    change(ll.IA3FF.specs, "zeros, first", "lambda t: t.uniform_(-1e-3, 1e-3), first"),
    breaks="the gate starts a thousandth off",
    models="small noise where exact zeros are promised",
    applies_to="ia3_ff",
)
