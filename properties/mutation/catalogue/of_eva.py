"""Silent failures of EVA: every term of the formula, wrong in one way or more."""

import lora_lite as ll
from lora_lite.calibration import InputMoments
from properties.mutation.mutant import change, mutant

# Forward: the output is wrong.

mutant(
    "eva_scale_lost",
    change(ll.EVA.adapt_output, "self.scale", "1.0"),
    breaks="the update is not scaled by alpha / r",
    models="a scale that tests with alpha = r never see",
    applies_to="eva",
)
mutant(
    "eva_scale_inverted",
    change(ll.EVA.adapt_output, "self.scale", "1 / self.scale"),
    breaks="the update is scaled by r / alpha",
    models="a quotient upside down",
    applies_to="eva",
)
mutant(
    "eva_alpha_without_r",
    change(ll.EVA.adapt_output, "self.scale", "self.config.alpha"),
    breaks="the update is scaled by alpha",
    models="alpha taken as the scale itself",
    applies_to="eva",
)

# Gradients: the output is right, what training makes of it is not.

mutant(
    "eva_A_detached",
    change(ll.EVA.adapt_output, "self.A", "self.A.detach()"),
    breaks="A gets no gradient",
    models="principal directions taken for constants; at init A's gradient is zero anyway",
    applies_to="eva",
)

# Init: training starts from somewhere else than the paper says.

mutant(
    "eva_bottom_directions",
    change(ll.EVA.initialise, "directions[: self.A.shape[0]]", "directions[-self.A.shape[0] :]"),
    breaks="A looks where the data varies least",
    models="eigenvalues in ascending order taken for descending",
    applies_to="eva",
)
mutant(
    "eva_inputs_not_centred",
    change(
        InputMoments.update,
        "scatter = (x - mean).mT @ (x - mean)",
        "mean = torch.zeros_like(mean)\n    scatter = x.mT @ x",
    ),
    breaks="A's first row is the mean of the inputs",
    models="an SVD of raw activations",
    applies_to="eva",
)
mutant(
    "eva_sign_left_to_the_solver",
    change(ll.EVA.initialise, "A * largest.sign()", "A"),
    breaks="each row has the sign that LAPACK gave it",
    models="an init that another BLAS makes another one",
    applies_to="eva",
)
mutant(
    "eva_sign_of_the_first_entry",
    change(ll.EVA.initialise, "largest.sign()", "A[:, :1].sign()"),
    breaks="each row's first entry is positive, not its largest",
    models="a sign rule that rounding flips, and a row lost where the entry is zero",
    applies_to="eva",
)
mutant(
    "eva_sign_of_the_wrong_entry",
    change(ll.EVA.initialise, "A.abs().argmax(", "A.argmax("),
    breaks="the sign is that of the largest entry, not of the largest in size: always positive",
    models="a lost absolute value",
    applies_to="eva",
)
mutant(
    "eva_directions_whitened",
    change(
        ll.EVA.initialise,
        "A * largest.sign()",
        "A * largest.sign() / statistics.principal()[0][: len(A), None].sqrt()",
    ),
    breaks="rows have length 1/√variance",
    models="components scaled as for whitening",
    applies_to="eva",
)
mutant(
    "eva_random_directions",
    change(
        ll.EVA.initialise,
        "directions[: self.A.shape[0]]",
        "torch.linalg.qr(torch.randn_like(directions))[0][: self.A.shape[0]]",
    ),
    breaks="A is orthonormal and has nothing to do with the data",
    models="calibration data read and ignored",
    applies_to="eva",
)
mutant(
    "eva_rho_ignored",
    change(ll.EVA.allocate, "config.r * config.rho", "config.r"),
    breaks="every layer keeps r components",
    models="an option accepted and ignored",
    applies_to="eva",
)
mutant(
    "eva_scale_changes_with_the_rank",
    change(ll.EVA.allocate, "alpha=config.alpha * rank / config.r", "alpha=config.alpha"),
    breaks="a layer's scale is alpha over its own rank",
    models="ranks redistributed without their scale",
    applies_to="eva",
)
