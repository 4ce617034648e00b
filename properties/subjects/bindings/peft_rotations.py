"""peft's rotations: tensors and settings as the oracles' symbols and options."""

from typing import Any

from torch import Tensor

from properties.subjects.bindings.binding import Binding, Named, inert, settings
from properties.subjects.bindings.peft_lora import of


def _psoft_tensors(tensors: Named) -> dict[str, Tensor]:
    R = "q" if tensors["psoft_R.default.weight"].ndim == 1 else "M"
    diagonals = of(beta="psoft_R.*.vector_b", alpha="psoft_R.*.vector_a")
    frozen = of(A="_psoft_A_cache", B="_psoft_B_cache")
    return {R: tensors["psoft_R.default.weight"], **diagonals(tensors), **frozen(tensors)}


def _oft(given: Any) -> dict[str, Any]:
    # "Cayley-Neumann (efficient but approximate) or the vanilla Cayley (exact)": one map.
    terms = given.num_cayley_neumann_terms
    options = {"terms": terms if given.use_cayley_neumann else None, "init": given.init_weights}
    size = {"block_size": given.oft_block_size, "blocks": given.r}
    bound = {"within": given.eps if given.coft else None}
    return {**options, **size, **bound, "side": "in", "shared": given.block_share}


def _psoft(given: Any) -> dict[str, Any]:
    # The shapes say which of the three parts there are.
    _ = given.psoft_orth, given.psoft_mag_a, given.psoft_mag_b
    terms = given.num_cayley_neumann_terms
    terms = terms if given.use_cayley_neumann else None
    split = "both" if given.ab_svd_init == "pissa_init" else "right"
    lawful = {"init": given.init_weights, "lawful": given.psoft_svd == "full"}
    return {
        "r": given.r,
        "scale": given.psoft_alpha,
        "split": split,
        "terms": terms,
        **lawful,
    }


INIT = {"init": "init_weights"}
BOFT = {"side": "in", "sign": -1, "half": True}

BINDINGS: dict[str, Binding] = {
    "peft:boft": Binding(
        "boft",
        of(D="boft_R", m="boft_s"),
        settings(BOFT, b="boft_block_size", n="boft_block_num", **INIT),
        # "Setting boft_n_butterfly_factor to 1": a warning of its layer.
        inert=inert("1 without its CUDA extension", "boft_n_butterfly_factor"),
    ),
    "peft:hra": Binding("hra_columns", of(U="hra_u"), settings(r="r", gs="apply_GS", **INIT)),
    "peft:oft": Binding("oft", of(q="oft_R.*.weight"), _oft, inert=inert("of coft alone", "eps")),
    # The root that its bound is divided by is that of a whole number, which torch takes in float32.
    "peft:oft+coft=True": Binding("oft", of(q="oft_R.*.weight"), _oft, dtypes=("float32", "bfloat16")),
    "peft:psoft": Binding(
        "psoft",
        _psoft_tensors,
        _psoft,
        inert=inert("of psoft_svd=lowrank alone", "psoft_svd_lowrank_niter"),
    ),
    "peft:road": Binding(
        "road",
        of(theta="road_theta", alpha="road_alpha"),
        settings(kind="variant", g="group_size", **INIT),
    ),
}
