"""Facts of one variant on fixed cases: tensors, init, the identity in every pair of dtypes, output, gradients, round trip."""

import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lora_lite as ll
from properties.assertions import Meter, Violation, assert_close, assert_identical, assert_within, measuring
from properties.audit.report import FAILS, NO_REFERENCE, OK, UNMEASURED, DtypeFact, Facts, Finding, InitFact, TensorFact
from properties.implementation import adapter_dtype, implementation
from properties.observe import expected, observe, options_of, subject
from properties.oracles import ORACLES
from properties.tolerance import Bounded, claim_bound, coarser
from strategies import DTYPES, AdaptedLayer, LinearRecipe
from strategies.options import Options, build_config, fitting, own_options, ranks

# Rectangular, with a bias and alpha ≠ r: what a square layer or a scale of one would hide.
WANTED_SHAPE, WANTED_RANK, ALPHA = (24, 17), 6, 3.0


def fixed_case(variant: str, *, base: str = "float32", adapter: str = "float32", trained: bool = False) -> AdaptedLayer:
    """The variant's default options on a layer 24 → 17 with a bias, or the widest that it takes, if any (else ValueError)."""
    drawn: Options = tuple((name, values[0]) for name, values in own_options(variant).items())
    if "alpha" not in ll.VARIANTS[variant].config_class.unused:
        drawn = (*drawn, ("alpha", ALPHA))
    options = (*drawn, ("dtype", adapter))
    d_in, d_out = WANTED_SHAPE
    if not ranks(variant, d_in, d_out, options):
        widths = fitting(variant, options)
        if not widths:
            raise ValueError(f"{variant}: no layer of the drawn shapes takes {dict(options)}")
        d_in = widths[-1]
        d_out = fitting(variant, options, d_in)[-1]
    r = max((r for r in ranks(variant, d_in, d_out, options) if r is None or r <= WANTED_RANK), key=lambda r: r or 0)
    return AdaptedLayer(
        variant=variant,
        linear=LinearRecipe(d_in, d_out, bias=True, dtype=base),
        options=options if r is None else (("r", r), *options),
        trained=trained,
        calibrated=ll.VARIANTS[variant].needs_calibration,
    )


def judged(check: Callable[[], Any], *, measures: bool = True) -> Finding:
    """Run a check: what it claims holds, by what share of tolerance; a violation or a crash is told, and never raised."""
    meter = Meter()
    try:
        with measuring(meter):
            check()
    except Violation as violation:
        return Finding(FAILS, _worst(meter), str(violation))
    except Exception as error:
        return Finding(FAILS, None, f"{type(error).__name__}: {error}")
    return Finding(OK, _worst(meter) if measures else None)


def _worst(meter: Meter) -> float | None:
    return max(meter.worst.values(), default=None)


def facts_of(variant: str) -> Facts:
    """Everything that a block of the report says beside its properties. Deterministic, and well under a second."""
    case = fixed_case(variant)
    oracle = variant in ORACLES
    missing = Finding(NO_REFERENCE, None, "no float64 oracle")
    trained = [fixed_case(variant, base=d, adapter=d, trained=True) for d in ("float32", "float64")]
    return Facts(
        variant=variant,
        case=repr(case),
        identity=implementation.identity(case),
        params=params_of(case),
        init=init_of(case) if oracle else [],
        dtype=[dtype_of(variant, base, adapter) for base, adapter in product(DTYPES, DTYPES)],
        forward=judged(lambda: forward(*trained)) if oracle else missing,
        gradient=judged(lambda: gradients(*trained)) if oracle else missing,
        round_trip=judged(lambda: round_trip(fixed_case(variant, trained=True)), measures=False),
    )


def params_of(case: AdaptedLayer) -> list[TensorFact]:
    """Every tensor as declared by its ParamSpec and as attach made it, with its gradient after one backward pass."""
    made = subject(case)
    (layer,) = observe(made)
    (declared,) = implementation.first_gradients(made.model).values()
    specs = specs_of(case)
    rows = []
    for name in dict.fromkeys([*specs, *layer.tensors]):
        spec, tensor = specs.get(name), layer.tensors.get(name)
        trainable = isinstance(tensor, torch.nn.Parameter)
        gradient = layer.gradients.get(name)
        measured, norm = ("–", None) if gradient is None else _sign_of_life(gradient)
        wanted = declared.get(name, "–")
        wrong = _params_differ(spec, tensor, trainable, adapter_dtype(case))
        if not wrong and measured != wanted:
            wrong = f"its first gradient is declared {wanted} and is {measured}"
        rows.append(
            TensorFact(
                name,
                list(spec.shape if spec is not None else tensor.shape if tensor is not None else ()),
                "missing" if tensor is None else str(tensor.dtype).removeprefix("torch."),
                "trainable" if trainable else "buffer",
                wanted,
                measured,
                norm,
                Finding(FAILS if wrong else OK, None, wrong),
            )
        )
    return rows


def specs_of(case: AdaptedLayer) -> dict[str, ll.ParamSpec]:
    """What the variant declares for the case's layer."""
    shape = ll.LinearShape(case.linear.d_in, case.linear.d_out)
    return ll.VARIANTS[case.variant].specs(shape, build_config(case.variant, case.options))


def _sign_of_life(gradient: Tensor) -> tuple[str, float]:
    norm = float(torch.linalg.vector_norm(gradient.double()))
    return ("not finite" if not norm < float("inf") else "nonzero" if norm else "zero"), norm


def _params_differ(spec: ll.ParamSpec | None, tensor: Tensor | None, trainable: bool, dtype: torch.dtype) -> str:
    if spec is None:
        return "attached and not declared"
    if tensor is None:
        return "declared and not attached"
    if tuple(tensor.shape) != tuple(spec.shape):
        return f"has shape {tuple(tensor.shape)}, declared {tuple(spec.shape)}"
    if tensor.dtype != dtype:
        return f"is {tensor.dtype}, asked for {dtype}"
    if trainable != spec.trainable:
        return f"is {'trainable' if trainable else 'a buffer'}, declared {'trainable' if spec.trainable else 'a buffer'}"
    return ""


def init_of(case: AdaptedLayer) -> list[InitFact]:
    """The oracle's claims about a fresh adapter, each with its share of tolerance."""
    made = subject(case)
    (tensors,) = made.initial.values()
    batches = case.calibration()
    p = {name: tensor.double() for name, tensor in tensors.items()}
    inputs = None if batches is None else torch.cat(batches).double()
    dtype = coarser(adapter_dtype(case), torch.promote_types(case.base_dtype, torch.float32))
    claims: list[Any] = []
    found = judged(
        lambda: claims.extend(
            ORACLES[case.variant].init_claims(made.base["0.weight"].double(), None, p, options_of(case), inputs)
        )
    )
    if found.state == FAILS:
        return [InitFact("the tensors have the shapes that the oracle speaks of", found)]
    return [
        InitFact(
            claim.name,
            judged(
                lambda claim=claim: assert_within(  # type: ignore[misc]  # mypy infers no type for a default
                    claim.got, claim.wanted, claim_bound(claim.magnitude, dtype), claim=claim.name, dtype=dtype
                )
            ),
        )
        for claim in claims
    ]


def dtype_of(variant: str, base: str, adapter: str) -> DtypeFact:
    """How far the fresh adapter is from an identity in this pair of dtypes, in eps of the base at the output's size."""
    try:
        case = fixed_case(variant, base=base, adapter=adapter)
    except ValueError as error:
        return DtypeFact(base, adapter, None, Finding(UNMEASURED, None, str(error)))
    off: list[float] = []
    found = judged(lambda: off.append(_off_identity(case)))
    if found.state == OK:
        found = _identity_holds(case)
    return DtypeFact(base, adapter, off[0] if off else None, found)


def _off_identity(case: AdaptedLayer) -> float:
    plain = case.build()(case.x()).detach().double()
    off = subject(case).model(case.x()).detach().double() - plain
    return float(off.abs().max() / (torch.finfo(case.base_dtype).eps * plain.abs().max()))


def _identity_holds(case: AdaptedLayer) -> Finding:
    """Bit for bit where the variant declares it so, else within the oracle's bound."""
    plain = case.build()(case.x()).detach()
    made = subject(case)
    claim = "the output at init is the base's"
    if implementation.identity(case) == "exact":
        return judged(lambda: assert_identical(made.model(case.x()).detach(), plain, claim=claim))
    if case.variant not in ORACLES:
        return Finding(NO_REFERENCE, None, "an identity to rounding takes its bound from an oracle")

    def within_bound() -> None:
        (layer,) = observe(made)
        assert_close(layer.y, Bounded(plain.double(), expected(layer).y.error), claim=claim)

    return judged(within_bound)


def forward(*cases: AdaptedLayer) -> None:
    """The output of a trained adapter is the oracle's."""
    for layer in (layer for case in cases for layer in observe(subject(case))):
        assert_close(layer.y, expected(layer).y, claim="the output is the oracle's")


def gradients(*cases: AdaptedLayer) -> None:
    """Every gradient of a trained adapter is the oracle's."""
    for layer in (layer for case in cases for layer in observe(subject(case))):
        wanted = expected(layer)
        for name, gradient in layer.gradients.items():
            assert_close(gradient, wanted.gradients[name], claim=f"the gradient of {name} is the oracle's")
        assert_close(layer.dx, wanted.dx, claim="the gradient of the input is the oracle's")


def round_trip(case: AdaptedLayer) -> None:
    """Saved, and loaded onto a fresh base: bit-equal tensors and output."""
    made = subject(case)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.safetensors"
        implementation.save(made.model, path)
        fresh = case.build()
        implementation.load(fresh, path)
    assert_identical(fresh(case.x()), made.model(case.x()).detach(), claim="the output after save and load")
