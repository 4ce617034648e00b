"""Silent failures of PiSSA: every term of the formula, wrong in one way or more."""

import lora_lite as ll
from properties.mutation.mutant import change, mutant

# Forward: the output is wrong.

mutant(
    "pissa_copy_not_subtracted",
    change(ll.PiSSA.adapt_output, "-self.B0]", "0 * self.B0]"),
    breaks="the principal part counts twice: in W and in the adapter",
    models="a base that was never made residual",
    applies_to="pissa",
)
mutant(
    "pissa_copy_subtracted_twice",
    change(ll.PiSSA.adapt_output, "-self.B0]", "-2 * self.B0]"),
    breaks="the frozen part is taken away twice",
    models="a residual made of a residual",
    applies_to="pissa",
)
mutant(
    "pissa_copy_of_B_is_live",
    change(ll.PiSSA.adapt_output, "-self.B0]", "-self.B.detach()]"),
    breaks="B A − B A₀: what is subtracted moves with B",
    models="a copy that is a view; identity holds and training B does half of what it should",
    applies_to="pissa",
)
mutant(
    "pissa_copy_of_A_is_live",
    change(ll.PiSSA.adapt_output, "self.A0]", "self.A.detach()]"),
    breaks="B A − B₀ A: what is subtracted moves with A",
    models="a copy that is a view",
    applies_to="pissa",
)
mutant(
    "pissa_scale_lost",
    change(ll.PiSSA.adapt_output, "up, self.scale)", "up)"),
    breaks="the difference is not scaled by s",
    models="a scale that the init's own 1/s hides: the identity holds",
    applies_to="pissa",
)
mutant(
    "pissa_scale_lost_in_init_and_forward",
    change(ll.PiSSA.adapt_output, "up, self.scale)", "up)"),
    change(ll.PiSSA.initialise, "(S[:r] / self.scale).sqrt()", "S[:r].sqrt()"),
    breaks="alpha does nothing at all",
    models="an option that is accepted and ignored, two losses that agree with each other",
    applies_to="pissa",
)
mutant(
    "pissa_scale_on_the_live_part_only",
    change(
        ll.PiSSA.adapt_output,
        "up = torch.cat([self.B, -self.B0], dim=1)\n    return add_low_rank(y, x, down, up, self.scale)",
        "up = torch.cat([self.B * self.scale, -self.B0], dim=1)\n    return add_low_rank(y, x, down, up)",
    ),
    breaks="s B A − B₀ A₀",
    models="a scale in one of two terms",
    applies_to="pissa",
)

# Gradients: the output is right, what training makes of it is not.

mutant(
    "pissa_A_detached",
    change(ll.PiSSA.adapt_output, "[self.A, self.A0]", "[self.A.detach(), self.A0]"),
    breaks="A gets no gradient",
    models="the frozen copy and the live one mixed up",
    applies_to="pissa",
)
mutant(
    "pissa_copy_of_B_differentiated",
    change(ll.PiSSA.adapt_output, "-self.B0]", "-(self.B0 + self.B - self.B.detach())]"),
    breaks="B's gradient flows through the frozen part as well: zero at init",
    models="a copy that shares the graph",
    applies_to="pissa",
)
mutant(
    "pissa_A_frozen",
    change(ll.PiSSA.specs, '"A": ParamSpec(A, first_gradient="nonzero")', '"A": ParamSpec(A)'),
    breaks="A is a buffer",
    models="a trainable tensor registered as a constant",
    applies_to="pissa",
)
mutant(
    "pissa_copy_trainable",
    change(ll.PiSSA.specs, '"B0": ParamSpec(B)', '"B0": ParamSpec(B, first_gradient="nonzero")'),
    breaks="B₀ is a parameter",
    models="a constant registered as a parameter: the optimiser moves the base's principal part",
    applies_to="pissa",
)
mutant(
    "pissa_B_declared_to_wait",
    change(
        ll.PiSSA.specs,
        '"B": ParamSpec(B, first_gradient="nonzero")',
        '"B": ParamSpec(B, first_gradient="zero")',
    ),
    breaks="B's first gradient is declared zero and is not",
    models="a declaration copied from another variant",
    applies_to="pissa",
)

# Init: training starts from somewhere else than the paper says.

mutant(
    "pissa_root_lost",
    change(ll.PiSSA.initialise, "(S[:r] / self.scale).sqrt()", "S[:r] / self.scale"),
    breaks="A = S/s Vᵀ and B = U S/s",
    models="a missing root: the frozen copy has it too, and the identity holds",
    applies_to="pissa",
)
mutant(
    "pissa_all_of_S_in_B",
    change(
        ll.PiSSA.initialise,
        'copy_(root[:, None] * Vh[:r])\n    for name in ("B", "B0"):\n        getattr(self, name).copy_(U[:, :r] * root)',
        'copy_(Vh[:r])\n    for name in ("B", "B0"):\n        getattr(self, name).copy_(U[:, :r] * root**2)',
    ),
    breaks="A = Vᵀ and B = U S/s: the product is right, the balance is not",
    models="singular values on one side",
    applies_to="pissa",
)
mutant(
    "pissa_bottom_directions",
    change(
        ll.PiSSA.initialise,
        "root = (S[:r] / self.scale).sqrt()",
        "U, S, Vh = U.flip(1), S.flip(0), Vh.flip(0)\n    root = (S[:r] / self.scale).sqrt()",
    ),
    breaks="the r smallest singular values in place of the largest",
    models="ascending taken for descending; this is MiLoRA, and the identity holds",
    applies_to="pissa",
)
mutant(
    "pissa_singular_values_not_divided_by_s",
    change(ll.PiSSA.initialise, "S[:r] / self.scale", "S[:r]"),
    breaks="A = √S Vᵀ: what starts out is s times the principal part",
    models="a scale that is subtracted on both sides, and the identity holds",
    applies_to="pissa",
)
mutant(
    "pissa_singular_values_times_s",
    change(ll.PiSSA.initialise, "S[:r] / self.scale", "S[:r] * self.scale"),
    breaks="A = √(S s) Vᵀ",
    models="a quotient upside down, and the identity holds",
    applies_to="pissa",
)
mutant(
    "pissa_copy_shares_storage",
    change(
        ll.PiSSA.initialise,
        'for name in ("A", "A0"):\n        getattr(self, name).copy_(root[:, None] * Vh[:r])',
        "self.A.copy_(root[:, None] * Vh[:r])\n    self.A0 = self.A.detach()",
    ),
    breaks="A₀ is A's own memory and moves with it",
    models="detach() taken for clone()",
    applies_to="pissa",
)
mutant(
    "pissa_copy_not_made",
    change(ll.PiSSA.initialise, 'for name in ("B", "B0"):', 'self.B0.zero_()\n    for name in ("B",):'),
    breaks="B₀ = 0",
    models="a residual that is never taken",
    applies_to="pissa",
)
mutant(
    "pissa_iterations_ignored",
    change(ll.PiSSA.initialise, "niter=self.config.niter", "niter=0"),
    breaks="the randomised SVD makes no power iteration",
    models="an option accepted and ignored",
    applies_to="pissa",
)
mutant(
    "pissa_right_factor_untransposed_where_square",
    change(
        ll.PiSSA.initialise,
        "root = (S[:r] / self.scale).sqrt()",
        "Vh = Vh.mT if Vh.shape[0] == Vh.shape[1] else Vh\n    root = (S[:r] / self.scale).sqrt()",
    ),
    breaks="where W is square A holds rows of V",
    models="V and Vᵀ mixed up between two SVD functions",
    applies_to="pissa",
)
