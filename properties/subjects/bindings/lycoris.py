"""LyCORIS: its tensors and settings as the oracles' symbols and options."""

from typing import Any

import torch
from torch import Tensor

from properties.subjects.bindings.binding import Binding, Named, Options, called, inert, settings
from properties.subjects.bindings.peft import numbered


def _rank(given: Any) -> dict[str, Any]:
    # alpha 0 stands for the rank: a docstring of its modules.
    return {"r": given.lora_dim, "alpha": given.alpha or given.lora_dim}


def _scaled(given: Any) -> dict[str, Any]:
    return {**_rank(given), "rs": given.rs_lora}


def _decomposed(given: Any) -> dict[str, Any]:
    _ = given.weight_decompose
    return {**_scaled(given), "axis": -1 if given.wd_on_out else -2}


def _glora(given: Any) -> dict[str, Any]:
    return {**_scaled(given), "product": "matrix", "zero": "u"}


def _lokr(given: Any) -> dict[str, Any]:
    return {**_decomposed(given), "bare": True}


def _with_scalar(
    method: str, oracle: str, start: Any, own: Options, left: dict[str, str], **names: str
) -> dict[str, Binding]:
    """With and without a trained scalar in front of the update; m where there is DoRA's magnitude."""

    def plain(given: Any) -> dict[str, Any]:
        return {**own(given), "init": start}

    def scaled(given: Any) -> dict[str, Any]:
        return {**own(given), "scalar": given.use_scalar, "init": "scalar"}

    return {
        method: Binding(oracle, called(**names, m="dora_scale"), plain, inert=left),
        f"{method}+use_scalar=True": Binding(
            oracle, called(**names, m="dora_scale", c="scalar"), scaled, inert=left
        ),
    }


def _rotation(oracle: str, **fixed: Any) -> Binding:
    return Binding(
        oracle,
        called(D="oft_blocks", m="rescale"),
        settings({"side": "out", "init": True, **fixed}, limit="constraint", size="lora_dim"),
        inert={
            **HOW,
            **inert("constraint stands in its place", "alpha"),
            **inert("m is there", "rescaled"),
            **inert("a bound, times the width, that small rotations keep anyway", "constraint"),
        },
        # findings/lycoris_oft_float64
        dtypes=("float32", "bfloat16"),
    )


def _pieces(tensors: Named) -> dict[str, Tensor]:
    down, up = numbered(tensors, A="down_list.#"), numbered(tensors, B="up_list.#")
    return {"A": torch.cat([*down.values()]), "B": torch.cat([*up.values()], dim=1)}


def _gate(oracle: str, options: Options) -> Binding:
    return Binding(oracle, called(offset="weight"), options, inert=NO_RANK)


HOW = inert("how the same function is computed", "bypass_mode")
NO_RANK = {**HOW, **inert("it has no rank", "alpha", "lora_dim")}
SHAPES = inert(
    *("of which factors there are", "decompose_both", "factor", "full_matrix", "unbalanced_factorization")
)

BINDINGS: dict[str, Binding] = {
    **_with_scalar("lycoris:lora", "locon", True, _decomposed, HOW, A="lora_down.weight", B="lora_up.weight"),
    **_with_scalar(
        *("lycoris:loha", "loha", "normal", _decomposed, HOW),
        A1="hada_w1_a",
        B1="hada_w1_b",
        A2="hada_w2_a",
        B2="hada_w2_b",
    ),
    **_with_scalar(
        *("lycoris:lokr", "lokr", "w2", _lokr, {**HOW, **SHAPES}),
        W1="lokr_w1",
        A1="lokr_w1_a",
        B1="lokr_w1_b",
        W2="lokr_w2",
        A2="lokr_w2_a",
        B2="lokr_w2_b",
    ),
    **_with_scalar(
        *("lycoris:glora", "glora", True, _glora, HOW),
        Ad="a1.weight",
        Au="a2.weight",
        Bd="b1.weight",
        Bu="b2.weight",
    ),
    "lycoris:dylora": Binding(
        "dylora", _pieces, _rank, inert={**HOW, **inert("of which pieces there are", "block_size")}
    ),
    "lycoris:full": Binding("full", called(W="weight", b="bias"), inert=NO_RANK),
    "lycoris:diag-oft": _rotation("oft", terms=None),
    "lycoris:boft": _rotation("boft", half=False, sign=1),
    "lycoris:ia3": _gate("ia3", settings()),
    "lycoris:ia3+train_on_input=True": _gate("ia3_ff", settings(on_input="train_on_input")),
    "lycoris:tlora": Binding(
        "tlora",
        called(
            P="p_layer.weight",
            l="lambda_layer",
            Q="q_layer.weight",
            P0="base_p",
            l0="base_lambda",
            Q0="base_q",
        ),
        lambda given: {**_rank(given), "part": given.sig_type, "of_weight": given.use_data_init},
        inert={**HOW, **inert("which masks, of none", "mask_group_id")},
    ),
}
