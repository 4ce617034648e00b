"""Facts of one variant on fixed cases: tensors, init, the identity in every pair of dtypes, output,
gradients, round trip.
"""

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lora_lite as ll
from properties.audit.report import (
    FAILS,
    NO_REFERENCE,
    OK,
    UNMEASURED,
    DtypeFact,
    Finding,
    InitFact,
    TensorFact,
)
from properties.judging.assertions import (
    Meter,
    Violation,
    assert_close,
    assert_equal,
    assert_identical,
    assert_within,
    measuring,
)
from properties.judging.tolerance import Bounded, claim_bound, coarser
from properties.oracles import ORACLES, Claim
from properties.subjects.lora_lite import adapter_dtype, implementation
from properties.subjects.observe import expected, expected_output, observe, options_of, subject
from strategies import DTYPES, AdaptedLayer, LinearRecipe
from strategies.options import build_config, fitting, ranks, simplest

NO_ORACLE = Finding(NO_REFERENCE, None, "no float64 oracle")
# Rectangular, with a bias and alpha ≠ r: what a square layer or a scale of one would hide.
WANTED_SHAPE, WANTED_RANK, ALPHA = (24, 17), 6, 3.0


class NoCaseError(Exception):
    """The variant takes none of the layers that are tried: nothing can be measured, and nothing is wrong."""


def fixed_case(
    variant: str, *, base: str = "float32", adapter: str = "float32", trained: bool = False
) -> AdaptedLayer:
    """The variant's default options on a layer 24 → 17 with a bias, or on the widest that it takes.

    Of its ranks the largest up to 6, else the smallest. Raises NoCaseError where it takes no layer.
    """
    drawn = simplest(variant)
    if "alpha" not in ll.VARIANTS[variant].config_class.unused:
        drawn = (*drawn, ("alpha", ALPHA))
    options = (*drawn, ("dtype", adapter))
    d_in, d_out = WANTED_SHAPE
    if not ranks(variant, d_in, d_out, options):
        widths = fitting(variant, options)
        if not widths:
            raise NoCaseError(f"{variant} takes no layer of the shapes that are tried, with {dict(options)}")
        d_in = widths[-1]
        d_out = fitting(variant, options, d_in)[-1]
    known = sorted(r for r in ranks(variant, d_in, d_out, options) if r is not None)
    r = max((r for r in known if r <= WANTED_RANK), default=known[0] if known else None)
    return AdaptedLayer(
        variant=variant,
        linear=LinearRecipe(d_in, d_out, bias=True, dtype=base),
        options=options if r is None else (("r", r), *options),
        trained=trained,
        calibrated=ll.VARIANTS[variant].needs_calibration,
    )


def judged(check: Callable[[], Any], *, measures: bool = True) -> Finding:
    """Run a check: what it claims holds, by what share of tolerance; a violation or a crash is told, and
    never raised.

    Where there is no case for it, it is not measured.
    """
    meter = Meter()
    try:
        with measuring(meter):
            check()
    except NoCaseError as none:
        return Finding(UNMEASURED, None, str(none))
    except Violation as violation:
        return Finding(FAILS, _worst(meter), str(violation))
    except Exception as error:
        return Finding(FAILS, None, f"{type(error).__name__}: {error}")
    return Finding(OK, _worst(meter) if measures else None)


def _worst(meter: Meter) -> float | None:
    return max(meter.worst.values(), default=None)


def params(variant: str) -> list[TensorFact]:
    """Every tensor of a fresh adapter, or why there is none."""
    rows: list[TensorFact] = []
    found = judged(lambda: rows.extend(params_of(fixed_case(variant))))
    return rows if found.state == OK else INSTEAD["params"](found)


def init(variant: str) -> list[InitFact]:
    """Every claim of the oracle about a fresh adapter, with its share of tolerance."""
    if variant not in ORACLES:
        return [InitFact("what init should leave", NO_ORACLE)]
    case = fixed_case(variant)
    dtype = coarser(adapter_dtype(case), torch.promote_types(case.base_dtype, torch.float32))
    claims: list[Claim] = []
    found = judged(lambda: claims.extend(init_claims(case)))
    if found.state == FAILS:
        return [InitFact("attach leaves tensors of the shapes that the oracle speaks of", found)]

    def within(claim: Claim) -> None:
        assert_within(
            claim.got, claim.wanted, claim_bound(claim.magnitude, dtype), claim=claim.name, dtype=dtype
        )

    return [InitFact(claim.name, judged(partial(within, claim))) for claim in claims]


def dtypes(variant: str) -> list[DtypeFact]:
    """The identity of a fresh adapter in every pair of dtypes."""
    return [dtype_of(variant, base, adapter) for base, adapter in product(DTYPES, DTYPES)]


def trained(variant: str) -> list[AdaptedLayer]:
    """The fixed case away from init, in the two dtypes that hide nothing."""
    return [fixed_case(variant, base=dtype, adapter=dtype, trained=True) for dtype in ("float32", "float64")]


# The parts of Facts by the name of the claim that each makes.
PARTS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "params_are_as_declared": ("params", params),
    "init_is_as_the_oracle_claims": ("init", init),
    "identity_holds_in_every_pair_of_dtypes": ("dtype", dtypes),
    "trained_output_is_the_oracles": (
        "forward",
        lambda v: judged(partial(forward, v)) if v in ORACLES else NO_ORACLE,
    ),
    "trained_gradients_are_the_oracles": (
        "gradient",
        lambda v: judged(partial(gradients, v)) if v in ORACLES else NO_ORACLE,
    ),
    "a_saved_adapter_loads_as_it_was": (
        "round_trip",
        lambda v: judged(partial(round_trip, v), measures=False),
    ),
}


# For the parts that are lists: what stands there with one finding, since attach failed or there is no case
# for it.
INSTEAD: dict[str, Callable[[Finding], list[Any]]] = {
    "params": lambda found: [TensorFact("any", [], "", "none", "–", "–", None, found)],
    "init": lambda found: [InitFact("what init should leave", found)],
    "dtype": lambda found: [
        DtypeFact(base, adapter, None, found) for base, adapter in product(DTYPES, DTYPES)
    ],
}


def measure(claim: str, variant: str) -> dict[str, Any]:
    """One part of the variant's facts as plain values; deterministic, and well under a second."""
    part, of = PARTS[claim]
    try:
        case = fixed_case(variant)
        told = {"case": repr(case), "identity": implementation.identity(case)}
        value = of(variant)
    except NoCaseError as none:
        told, found = {"case": "none", "identity": "not measured"}, Finding(UNMEASURED, None, str(none))
        value = INSTEAD[part](found) if part in INSTEAD else found
    plain = [asdict(fact) for fact in value] if isinstance(value, list) else asdict(value)
    return {"variant": variant, **told, "part": part, "value": plain}


def failing(record: dict[str, Any]) -> list[str]:
    """Why each fact of this record that does not hold does not."""
    facts = record["value"] if isinstance(record["value"], list) else [{"found": record["value"]}]
    name = ("name", "claim", "base", "adapter")
    return [
        " ".join([*(str(fact[key]) for key in name if key in fact), fact["found"]["why"]])
        for fact in facts
        if fact["found"]["state"] == FAILS
    ]


def params_of(case: AdaptedLayer) -> list[TensorFact]:
    """Every tensor as declared by its ParamSpec and as attach made it, with its gradient after one backward
    pass.
    """
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


def _params_differ(
    spec: ll.ParamSpec | None, tensor: Tensor | None, trainable: bool, dtype: torch.dtype
) -> str:
    if spec is None:
        return "attached and not declared"
    if tensor is None:
        return "declared and not attached"
    if tuple(tensor.shape) != tuple(spec.shape):
        return f"has shape {tuple(tensor.shape)}, declared {tuple(spec.shape)}"
    if tensor.dtype != dtype:
        return f"is {tensor.dtype}, asked for {dtype}"
    if trainable != spec.trainable:
        return (
            f"is {'trainable' if trainable else 'a buffer'}, declared"
            f" {'trainable' if spec.trainable else 'a buffer'}"
        )
    return ""


def init_claims(case: AdaptedLayer) -> list[Claim]:
    """What the oracle says of the tensors that attach leaves."""
    made = subject(case)
    (tensors,) = made.initial.values()
    batches = case.calibration()
    p = {name: tensor.double() for name, tensor in tensors.items()}
    inputs = None if batches is None else torch.cat(batches).double()
    return ORACLES[case.variant].init_claims(
        made.base["0.weight"].double(), None, p, options_of(case), inputs
    )


def dtype_of(variant: str, base: str, adapter: str) -> DtypeFact:
    """How far the fresh adapter is from an identity in this pair of dtypes, in eps of the base at the
    output's size.
    """
    try:
        case = fixed_case(variant, base=base, adapter=adapter)
    except NoCaseError as none:
        return DtypeFact(base, adapter, None, Finding(UNMEASURED, None, str(none)))
    off: list[float] = []
    found = judged(lambda: _identity(case, off))
    if found.state == OK and implementation.identity(case) != "exact" and variant not in ORACLES:
        found = Finding(NO_REFERENCE, None, "an identity to rounding takes its bound from an oracle")
    return DtypeFact(base, adapter, off[0] if off else None, found)


def _identity(case: AdaptedLayer, off: list[float]) -> None:
    """Exact where the variant declares it so, else within the oracle's bound; how far off it is goes to
    `off`.
    """
    plain = case.build()(case.x()).detach()
    (layer,) = observe(subject(case))
    size = torch.finfo(case.base_dtype).eps * plain.double().abs().max()
    off.append(float((layer.y.detach().double() - plain.double()).abs().max() / size))
    claim = "the output at init is the base's"
    if implementation.identity(case) == "exact":
        assert_equal(layer.y.detach(), plain, claim=claim)
    elif case.variant in ORACLES:
        assert_close(layer.y, Bounded(plain.double(), expected_output(layer).error), claim=claim)


def forward(variant: str) -> None:
    """The output of a trained adapter is the oracle's."""
    for layer in (layer for case in trained(variant) for layer in observe(subject(case))):
        assert_close(layer.y, expected_output(layer), claim="the output is the oracle's")


def gradients(variant: str) -> None:
    """Every gradient of a trained adapter is the oracle's."""
    for layer in (layer for case in trained(variant) for layer in observe(subject(case))):
        wanted = expected(layer)
        for name, gradient in layer.gradients.items():
            assert_close(gradient, wanted.gradients[name], claim=f"the gradient of {name} is the oracle's")
        assert_close(layer.dx, wanted.dx, claim="the gradient of the input is the oracle's")


def round_trip(variant: str) -> None:
    """Saved, and loaded onto a fresh base: bit-equal output."""
    case = fixed_case(variant, trained=True)
    made = subject(case)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.safetensors"
        implementation.save(made.model, path)
        fresh = case.build()
        implementation.load(fresh, path)
    assert_identical(fresh(case.x()), made.model(case.x()).detach(), claim="the output after save and load")
