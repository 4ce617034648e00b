"""What a variant looks like on one fixed layer: figures that the audit shows, and what is wrong."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

import lora_lite as ll
from properties.judging.agreement import assert_gives_the_base, init_laws
from properties.judging.assertions import Violation, assert_equal, assert_within
from properties.judging.needs import has_oracle
from properties.judging.outcome import Meter, NotJudgedError, measuring
from properties.judging.tolerance import claim_bound
from properties.subjects import subject
from properties.subjects.attaching import attach
from properties.subjects.layer_runs import run_layers
from properties.subjects.protocol import adapter_dtype
from strategies import DTYPES, AdaptedLayer, LinearRecipe
from strategies.options import build_config, fitting, ranks, simplest

# Rectangular, with a bias and alpha ≠ r: what a square layer or a scale of one would hide.
WANTED_SHAPE, WANTED_RANK, ALPHA = (24, 17), 6, 3.0


@dataclass(frozen=True)
class Row:
    """One line of a figure.

    shown: its cells by column; wrong: why it is not as it should be, "" where it is.
    """

    shown: dict[str, Any]
    wrong: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**self.shown, "wrong": self.wrong}


def fixed_case(variant: str, *, base: str = "float32", adapter: str = "float32") -> AdaptedLayer:
    """The variant's default options on a layer 24 → 17 with a bias, or on the widest that it takes.

    Of its ranks the largest up to 6, else the smallest. Raises NotJudgedError where it takes no layer.
    """
    drawn = simplest(variant)
    if "alpha" not in ll.VARIANTS[variant].config_class.unused:
        drawn = (*drawn, ("alpha", ALPHA))
    options = (*drawn, ("dtype", adapter))
    d_in, d_out = WANTED_SHAPE
    if not ranks(variant, d_in, d_out, options):
        widths = fitting(variant, options)
        if not widths:
            raise NotJudgedError(
                f"{variant} takes no layer of the shapes that are tried, with {dict(options)}"
            )
        d_in = widths[-1]
        d_out = fitting(variant, options, d_in)[-1]
    known = sorted(r for r in ranks(variant, d_in, d_out, options) if r is not None)
    r = max((r for r in known if r <= WANTED_RANK), default=known[0] if known else None)
    return AdaptedLayer(
        variant=variant,
        linear=LinearRecipe(d_in, d_out, bias=True, dtype=base),
        options=options if r is None else (("r", r), *options),
        calibrated=ll.VARIANTS[variant].needs_calibration,
    )


def tensors_of(case: AdaptedLayer) -> list[Row]:
    """Every tensor as its ParamSpec declares it and as attach made it, with its gradient after one backward
    pass.
    """
    attached = attach(case)
    (layer,) = run_layers(attached)
    (declared,) = subject.first_gradients(attached.model).values()
    shape = ll.LinearShape(case.linear.d_in, case.linear.d_out, case.linear.bias)
    specs = ll.VARIANTS[case.variant].specs(shape, build_config(case.variant, case.options))
    rows = []
    for name in dict.fromkeys([*specs, *layer.tensors]):
        spec, tensor = specs.get(name), layer.tensors.get(name)
        gradient, wanted = layer.gradients.get(name), declared.get(name, "–")
        measured, norm = ("–", None) if gradient is None else _sign_of_life(gradient)
        wrong = _unlike(spec, tensor, adapter_dtype(case))
        shown = {
            "name": name,
            "shape": list(spec.shape if spec else tensor.shape if tensor is not None else ()),
            "dtype": "missing" if tensor is None else str(tensor.dtype).removeprefix("torch."),
            "kind": _kind(isinstance(tensor, torch.nn.Parameter)),
            "declared": wanted,
            "measured": measured,
            "norm": norm,
        }
        rows.append(Row(shown, wrong))
    return rows


def _kind(trainable: bool) -> str:
    return "trainable" if trainable else "buffer"


def _sign_of_life(gradient: Tensor) -> tuple[str, float]:
    norm = float(torch.linalg.vector_norm(gradient.double()))
    return ("not finite" if not norm < float("inf") else "nonzero" if norm else "zero"), norm


def _unlike(spec: ll.ParamSpec | None, tensor: Tensor | None, dtype: torch.dtype) -> str:
    """In what the tensor is not as declared."""
    if spec is None or tensor is None:
        return "attached and not declared" if spec is None else "declared and not attached"
    if tuple(tensor.shape) != tuple(spec.shape):
        return f"has shape {tuple(tensor.shape)}, declared {tuple(spec.shape)}"
    if tensor.dtype != dtype:
        return f"is {tensor.dtype}, asked for {dtype}"
    if (found := isinstance(tensor, torch.nn.Parameter)) != spec.trainable:
        return f"is {_kind(found)}, declared {_kind(spec.trainable)}"
    return ""


def init_of(case: AdaptedLayer) -> list[Row]:
    """Every law of the oracle about a fresh adapter, with its error as a share of the bound."""
    attached, batches = attach(case), case.calibration()
    (tensors,) = attached.initial.values()
    inputs = None if batches is None else torch.cat(batches).double()
    dtype, laws = init_laws(case, attached.weight("0"), tensors, inputs)
    rows = []
    for law in laws:
        with measuring(Meter()) as meter:
            try:
                bound = claim_bound(law.magnitude, dtype)
                assert_within(law.got, law.wanted, bound, what=law.name, like="kept", dtype=dtype)
                wrong = ""
            except Violation as violation:
                wrong = str(violation)
        rows.append(Row({"law": law.name, "share": max(meter.worst.values(), default=None)}, wrong))
    return rows


def identity_by_dtype(variant: str) -> list[Row]:
    """How far the fresh adapter is from an identity in each pair of dtypes, in eps of the base at the
    output's size; nothing where the variant takes no such pair.
    """
    rows = []
    for base, adapter in product(DTYPES, DTYPES):
        shown: dict[str, Any] = {"base": base, "adapter": adapter, "eps": None}
        try:
            case = fixed_case(variant, base=base, adapter=adapter)
        except NotJudgedError:
            rows.append(Row(shown))
            continue
        plain = case.build()(case.x()).detach()
        (layer,) = run_layers(attach(case))
        size = torch.finfo(case.base_dtype).eps * plain.double().abs().max()
        shown["eps"] = float((layer.y.detach().double() - plain.double()).abs().max() / size)
        try:
            if subject.identity(case) == "none":
                pass
            elif subject.identity(case) == "exact":
                assert_equal(layer.y.detach(), plain, what="the output at init", like="the base's")
            elif has_oracle(ll.VARIANTS[variant]):
                assert_gives_the_base(layer)
            rows.append(Row(shown))
        except Violation as violation:
            rows.append(Row(shown, str(violation)))
    return rows
