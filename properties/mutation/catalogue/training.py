"""Silent failures that only training shows: the first forward and backward pass are right, and what comes later is not."""

import lora_lite as ll
from lora_lite import adapter
from properties.mutation.mutant import change, mutant

OUT = adapter._adapt_output
RETURN = "return adapted.to(y.dtype)"
CALLS = 'layer.lora_lite.__dict__.setdefault("calls", [])'

mutant(
    "hra_factors_kept_for_inference",
    change(
        ll.HRA.adapt_input,
        "self.wy_factors()",
        '(self.wy_factors() if torch.is_grad_enabled() else self.__dict__.setdefault("kept", self.wy_factors()))',
    ),
    breaks="without gradients the adapter stays what it was at the first evaluation",
    models="an inference cache that training does not invalidate",
    applies_to="hra",
)
mutant(
    "antipasto_rotation_kept_for_inference",
    change(
        ll.AntiPaSTO.adapt_output,
        "self.middle()",
        '(self.middle() if torch.is_grad_enabled() else self.__dict__.setdefault("kept", self.middle()))',
    ),
    breaks="without gradients the adapter stays what it was at the first evaluation",
    models="an inference cache that training does not invalidate",
    applies_to="antipasto",
)
mutant(
    "dora_norms_of_the_first_forward",
    change(
        ll.DoRA.adapt_output,
        "self.row_norms(layer)",
        'self.__dict__.setdefault("norms", self.row_norms(layer))',
    ),
    breaks="n is never computed again, and a reloaded adapter has another one than it was trained with",
    models="state outside of parameters and buffers, which no file holds",
    applies_to="dora",
)
mutant(
    "lora_a_learns_at_the_first_step_only",
    change(
        ll.LoRA.adapt_output,
        "self.A, self.B",
        '(self.A if not self.__dict__.setdefault("seen", []) else self.A.detach(), self.seen.append(0))[0], self.B',
    ),
    breaks="A's gradient, zero at the first step as it should be, stays zero",
    models="a path that is cut when B has left zero, or that requires_grad_ closed on a schedule",
    applies_to="lora",
)
mutant(
    "the_update_ends_after_some_calls",
    change(
        OUT,
        RETURN,
        f"{CALLS}.append(0)\n    return y + 0 * adapted if len({CALLS}) > 3 else adapted.to(y.dtype)",
    ),
    breaks="from the fourth call on the adapter adds nothing and learns nothing",
    models="a warm-up or a merge flag that flips in the middle of a run",
    applies_to="lora",
)
mutant(
    "the_rest_of_a_batch_is_left_alone",
    change(
        OUT,
        RETURN,
        "half = (len(y) + 1) // 2\n    return torch.cat([adapted[:half].to(y.dtype), y[half:]])",
    ),
    breaks="the second half of the batch passes by the adapter: training fits the first, and new text behind it gains nothing",
    models="an update that was sliced for micro-batches",
    applies_to="lora",
)
mutant(
    "the_base_drifts_while_training",
    change(
        OUT,
        RETURN,
        f"if torch.is_grad_enabled():\n        {CALLS}.append(0)\n"
        f"        layer.weight.data += 1e-3 * (len({CALLS}) > 2)\n    {RETURN}",
    ),
    breaks="the third forward pass of a training run writes into the base weight",
    models="a base that is merged and unmerged around steps, or quantised again, and not given back exactly",
    applies_to="lora",
)
mutant(
    "the_base_loses_the_sign_of_its_zeros",
    change(OUT, RETURN, f"if torch.is_grad_enabled():\n        layer.weight.data += 0.0\n    {RETURN}"),
    breaks="a forward pass makes 0 of −0 in the base weight: equal numbers, and a base that load refuses",
    models="a base that is merged and unmerged around steps, with nothing to add",
    applies_to="lora",
)
mutant(
    "delora_promises_a_small_first_step",
    change(ll.DeLoRA.continuous, 'return config.init != "zero_b"', "return True"),
    breaks="an init from which any step is a jump says that it is none",
    models="a documented exception that is no longer declared",
    applies_to="delora",
)
mutant(
    "lora_jumps_as_b_leaves_zero",
    change(ll.LoRA.adapt_output, "self.B,", "self.B + 5e-4 * self.B.sign(),"),
    breaks="the identity holds to the bit, and the smallest step adds 5e-4 to every entry of B",
    models="a floor or a rounding under small entries, which large steps hide",
    applies_to="lora",
)
mutant(
    "antipasto_last_block_of_two_does_not_turn",
    change(
        ll.AntiPaSTO.rotation_minus_identity,
        "return Q",
        "return Q if block > 2 or len(Q) < 2 else torch.cat([Q[:-1], 0 * Q[-1:]])",
    ),
    breaks="with blocks of two, the last row of rot is saved and counted, and turns nothing",
    models="a block that a loop over blocks leaves out, in a tensor with one column",
    applies_to="antipasto",
)
mutant(
    "vectors_not_frozen",
    change(
        adapter.install, "base[name].requires_grad_(False)", "base[name].requires_grad_(base[name].dim() < 2)"
    ),
    breaks="norms and biases of the base train along",
    models="freezing that goes by the kind of a layer, or by shape",
    applies_to="lora",
)
mutant(
    "ia3_half_of_the_gate_is_for_show",
    change(
        ll.IA3.adapt_output,
        "return gated(y, self.offset)",
        "shown, rest = self.offset.tensor_split(2)\n"
        "    return gated(y, self.offset - nn.functional.pad(rest.detach(), (len(shown), 0)))",
    ),
    breaks="the second half of the gate gets its gradient and moves, and no output depends on it",
    models="a straight-through estimator whose forward rounds its parameter away",
    applies_to="ia3",
)
mutant(
    "lora_a_goes_the_wrong_way",
    change(ll.LoRA.adapt_output, "self.A,", "2 * self.A.detach() - self.A,"),
    breaks="A's gradient has the wrong sign: B alone still learns",
    models="a backward pass written by hand",
    applies_to="lora",
)
mutant(
    "only_the_last_quarter_of_a_batch_is_adapted",
    change(
        OUT, RETURN, "rest = 3 * len(y) // 4\n    return torch.cat([y[:rest], adapted[rest:].to(y.dtype)])"
    ),
    breaks="the first three quarters of the batch pass by the adapter",
    models="an update that was sliced for micro-batches",
    applies_to="lora",
)
mutant(
    "delora_zero_b_does_not_jump",
    change(ll.DeLoRA.adapt_output, "ZERO_B_NORM_FLOOR", "1.0"),
    breaks="with zero_b small directions are not normalised",
    models="a documented exception that another floor has taken away",
    applies_to="delora",
)
