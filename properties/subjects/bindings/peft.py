"""peft but for LoRA and rotations: its tensors and settings as the oracles' symbols and options."""

from typing import Any

import torch
from torch import Tensor

from properties.subjects.bindings import peft_lora, peft_rotations
from properties.subjects.bindings.binding import Binding, Named, inert, settings
from properties.subjects.bindings.peft_lora import of


def numbered(tensors: Named, **stems: str) -> dict[str, Tensor]:
    """E0, E1, ... of the tensors whose names have 0, 1, ... where the stem has a hash."""
    found = {}
    for symbol, stem in stems.items():
        for i in range(len(tensors)):
            if (name := stem.replace("#", str(i))) in tensors:
                found[f"{symbol}{i}"] = tensors[name]
    return found


def _peanut(tensors: Named) -> dict[str, Tensor]:
    inner = numbered(tensors, E="peanut_encoders.default.#.weight", D="peanut_decoders.default.#.weight")
    return of(A="peanut_A.*.weight", B="peanut_B.*.weight")(tensors) | inner


def _adamss(tensors: Named) -> dict[str, Tensor]:
    parts = numbered(tensors, A="adamss_A.default.#", B="adamss_B.default.#")
    return {"N": tensors["adamss_newB.default"], **parts}


def _gate(tensors: Named) -> dict[str, Tensor]:
    """peft holds the gate, the oracle its offset from 1."""
    return {"offset": tensors["ia3_l.default"].flatten() - 1}


def _randlora(tensors: Named) -> dict[str, Tensor]:
    """The random columns of B are numbered by rank first and by term second where they meet A's."""
    B = tensors["randlora_B.default"]
    own = of(lambda_="randlora_lambda", gamma="randlora_gamma", A="randlora_A")(tensors)
    return own | {"B": B.reshape(len(B), B.shape[2], B.shape[1]).transpose(1, 2)}


def _super_entries(layer: Any) -> dict[str, Tensor]:
    flat, width = layer.supertuning_indices["default"].long(), layer.base_layer.in_features
    return {"E": torch.stack((flat // width, flat % width))}


def _miss(given: Any) -> dict[str, Any]:
    kind = given.init_weights if given.init_weights in ("bat", "mini") else "miss"
    return {"kind": kind, "init": given.init_weights is not False, "r": given.r, "mini_r": given.mini_r}


def _shira(given: Any) -> dict[str, Any]:
    # "r(m+n), where the original tensor dimensions are m x n"
    r = given.r
    return {"n": lambda d_out, d_in: r * (d_out + d_in), "largest": None, "init": given.init_weights}


def _super(given: Any) -> dict[str, Any]:
    # "0.99 = 1% of weight entries are trainable"
    rank, dense = {"r": given.r, "alpha": given.lora_alpha}, 1 - given.sparsity
    share = {"n": lambda d_out, d_in: dense * d_out * d_in}
    return {**rank, **share, "largest": given.select_top, "init": given.init_weights}


def _lokr(given: Any) -> dict[str, Any]:
    init = {True: True, "lycoris": "w2"}.get(given.init_weights, False)
    return {"r": given.r, "alpha": given.alpha, "init": init}


def _hira(given: Any) -> dict[str, Any]:
    return {"r": given.r, "init": {True: "kaiming", "gaussian": "normal"}.get(given.init_weights, "random")}


def _c3a(given: Any) -> dict[str, Any]:
    kinds = {True: "zero", "gaussian": "normal", "kaiming_uniform": "kaiming"}
    return {"b": given.block_size, "init": kinds.get(given.init_weights, "xavier")}


def _frozen(symbol: str, name: str) -> Any:
    """A symbol that the layer keeps in a dictionary of its own, by adapter."""
    return lambda layer: {symbol: getattr(layer, name)["default"]}


INIT = {"init": "init_weights"}
FILE = "what a file holds"
GLORA = {f"{p}{x}": f"glora_{p}.*.X{x}" for p in "ABCDE" for x in ("d", "u", "")}
SUBSPACES = (
    *("num_subspaces", "subspace_rank", "use_asa", "asa_target_subspaces", "init_warmup", "final_warmup"),
    *("mask_interval", "asa_importance_beta", "asa_uncertainty_beta", "asa_schedule_exponent"),
    *("use_dynamic_rank", "svd_threshold"),
)

BINDINGS: dict[str, Binding] = {
    **peft_lora.BINDINGS,
    **peft_rotations.BINDINGS,
    "peft:adamss": Binding(
        "adamss",
        _adamss,
        settings(r="r", **INIT),
        frozen=_frozen("rows", "scatter_index"),
        inert=inert("of which subspaces there are, or between steps", *SUBSPACES),
    ),
    "peft:beft": Binding("bias", lambda t: {"v": t["beft_bias.default"].flatten()}, settings(**INIT)),
    # findings/peft_c3a_float64
    "peft:c3a": Binding("c3a", of(w="c3a_kernel"), _c3a, dtypes=("float32", "bfloat16")),
    "peft:deft": Binding(
        "deft",
        of(P="deft_P", R="deft_R"),
        settings(r="r", alpha="alpha", method="decomposition_method", para="para", **INIT),
        inert=inert("of init_weights=False alone", "init_scale"),
        # It projects in float32: a comment in its layer.
        dtypes=("float32", "bfloat16"),
    ),
    "peft:delora": Binding(
        "delora",
        of(A="delora_A", B="delora_B", lambda_="delora_lambda", w="delora_w_norm"),
        settings({"init": "zero_b"}, r="r", lambda_init="delora_lambda", lawful="init_weights"),
    ),
    "peft:fourierft": Binding(
        "fourierft",
        of(c="fourierft_spectrum"),
        settings(n="n_frequency", alpha="scaling", **INIT),
        frozen=_frozen("E", "indices"),
        # findings/peft_fourierft_float64
        dtypes=("float32", "bfloat16"),
    ),
    "peft:frod": Binding(
        "frod",
        of(ell="frod_lambda_l", s="frod_lambda_s_values", U="frod_U"),
        settings(**INIT),
        frozen=lambda layer: {"V": layer.frod_V["default"], "E": layer.frod_s_indices["default"]},
        inert={
            **inert(FILE, "save_projection"),
            **inert("where the base is kept", "runtime_offload_base_weight"),
            **inert("of which V and E there are", "sparse_rate", "regularization_alpha"),
        },
    ),
    "peft:glora": Binding(
        "glora",
        of(**GLORA),
        settings({"product": "entries", "zero": "d"}, rank="r", **INIT),
        inert=inert("of which tensors there are", "config_A_B", "config_C", "config_D_E"),
    ),
    "peft:gralora": Binding(
        "gralora",
        of(
            A="gralora_A",
            B="gralora_B",
            H_A="gralora_A_general.*.weight",
            H_B="gralora_B_general.*.weight",
        ),
        settings(r="r", alpha="alpha", k="gralora_k", h="hybrid_r", **INIT),
    ),
    "peft:hira": Binding("hira", of(A="hira_A", B="hira_B"), _hira),
    "peft:ia3": Binding("ia3", _gate, settings(lawful="init_ia3_weights")),
    "peft:ia3+feedforward_modules=.": Binding(
        "ia3_ff",
        _gate,
        settings(lawful="init_ia3_weights"),
        inert=inert("of which side is gated", "feedforward_modules"),
    ),
    "peft:lily": Binding(
        "lily",
        of(A="lily_A.*.weight", B="lily_B.*.weight", R="lily_router.*.weight"),
        settings(r="r", s="scaling", n="num_B", **INIT),
        inert=inert("of which layers share A", "stride_A"),
    ),
    "peft:loha": Binding(
        "loha",
        of(A1="hada_w1_a", B1="hada_w1_b", A2="hada_w2_a", B2="hada_w2_b"),
        settings(r="r", alpha="alpha", **INIT),
        inert=inert("of convolutions", "use_effective_conv2d"),
        # findings/peft_loha_float64
        dtypes=("float32", "bfloat16"),
    ),
    "peft:lokr": Binding(
        "lokr",
        of(
            W1="lokr_w1",
            A1="lokr_w1_a",
            B1="lokr_w1_b",
            W2="lokr_w2",
            A2="lokr_w2_a",
            B2="lokr_w2_b",
        ),
        _lokr,
        inert={
            **inert("of convolutions", "use_effective_conv2d"),
            **inert("of which factors there are", "decompose_both", "decompose_factor"),
        },
    ),
    "peft:miss": Binding("miss", of(D="miss_block"), _miss),
    "peft:osf": Binding(
        "osf",
        of(
            U="osf_svd_params.*.U_low",
            S="osf_svd_params.*.S_low",
            V="osf_svd_params.*.V_low",
            U0="_osf_U_low_init",
            S0="_osf_S_low_init",
            V0="_osf_V_low_init",
            U_high="_osf_U_high",
            V_high="_osf_V_high",
        ),
        settings(kept="effective_rank", **INIT),
        # A projected gradient was 1.15 times its bound off in bfloat16, which nobody has looked into.
        dtypes=("float32", "float64"),
    ),
    "peft:peanut": Binding("peanut", _peanut, settings(r="r", s="scaling", depth="depth", **INIT)),
    "peft:pvera": Binding(
        "pvera",
        of(lambda_b="pvera_lambda_b", lambda_d="pvera_lambda_d", A="pvera_A", B="pvera_B"),
        settings(r="r", d_initial="d_initial", **INIT),
        inert=inert(FILE, "save_projection"),
    ),
    "peft:randlora": Binding(
        "randlora",
        _randlora,
        settings(r="r", alpha="randlora_alpha", **INIT),
        inert={
            **inert(FILE, "save_projection"),
            **inert("of how A and B are drawn", "sparse", "very_sparse"),
        },
    ),
    "peft:shira": Binding("sparse", of(v="shira_weight"), _shira, frozen=_frozen("E", "shira_indices")),
    "peft:supertuning": Binding(
        "sparse",
        of(v="supertuning_values", A="supertuning_lora_A.*.weight", B="supertuning_lora_B.*.weight"),
        _super,
        frozen=_super_entries,
        inert={
            **inert(FILE, "save_precomputed_indices"),
            **inert("ignored without r, as its documentation says", "lora_dropout"),
        },
    ),
    "peft:tinylora": Binding(
        "tinylora",
        lambda t: {
            "v": t["tinylora_v.default.0"],
            **of(A="tinylora_A", B="tinylora_B", P="tinylora_P")(t),
        },
        settings(r="r", u="u", bound="init_v_bound", **INIT),
        inert={**inert(FILE, "save_projection"), **inert("of which layers share v", "weight_tying")},
    ),
    "peft:unilora": Binding(
        "unilora",
        of(
            theta="unilora_theta_d",
            i_A="unilora_indices_A",
            i_B="unilora_indices_B",
            n_A="unilora_scales_A",
            n_B="unilora_scales_B",
        ),
        settings(r="r", d="theta_d_length", bound="init_theta_d_bound", **INIT),
        inert=inert(FILE, "save_indices"),
    ),
    "peft:vblora": Binding(
        "vblora",
        of(logits_A="vblora_logits_A", logits_B="vblora_logits_B", bank="vblora_vector_bank"),
        settings(
            r="r",
            k="topk",
            h="num_vectors",
            v="vector_length",
            deviation="init_logits_std",
            bound="init_vector_bank_bound",
        ),
        inert=inert(FILE, "save_only_topk_weights"),
    ),
    "peft:vera": Binding(
        "vera",
        of(lambda_b="vera_lambda_b", lambda_d="vera_lambda_d", A="vera_A", B="vera_B"),
        settings(r="r", d_initial="d_initial", **INIT),
        inert=inert(FILE, "save_projection"),
    ),
    "peft:waveft": Binding(
        "waveft",
        of(c="waveft_spectrum"),
        settings(n="n_frequency", s="scaling", transform="use_idwt", **INIT),
        frozen=_frozen("E", "waveft_indices"),
        inert=inert("of several layers", "proportional_parameters"),
    ),
}
