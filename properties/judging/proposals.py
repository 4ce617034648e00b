"""Laws that hold of a variant by measurement and that it does not declare: what its author could add."""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

import lora_lite as ll
from properties.judging import blanks
from properties.judging.assertions import Violation
from properties.judging.laws import Laws, assert_laws
from properties.judging.layer_function import LayerFunction, function_of
from properties.judging.weight_laws import MEASURES
from properties.subjects.attaching import attach
from strategies import AdaptedLayer, trained_layers

# Seen to hold in so many examples, of those that say anything.
EXAMPLES = 30
COMPONENTS = ("any_order_of", "one_more_zero", "composed_of", "repeated")
FACTS = ("apart_from_the_base", "in_place_of_the_base", "sees_the_output_alone", "bias_apart")
# What follows from another law, which says more.
IMPLIED = {"affine_in": "linear_in"}
# From any of these.
FOLLOWS = {
    "bias_apart": ("apart_from_the_base", "in_place_of_the_base"),
    "sees_the_output_alone": ("apart_from_the_base", "in_place_of_the_base"),
}


def candidates(f: LayerFunction) -> Iterator[Laws]:
    """Every law that could be declared of a layer whose widths and rank all differ, one at a time."""
    r, (d_out, d_in) = f.options.get("r"), f.W.shape

    def axes(size: Any) -> dict[str, int]:
        return {n: t.shape.index(size) for n, t in sorted(f.tensors.items()) if size in t.shape}

    for name, value in f.options.items():
        if name != "r" and type(value) is float:
            yield {"proportional_to": (name,)}
    trained = sorted(f.trained)
    for kind in ("linear_in", "affine_in", "any_size"):
        yield from ({kind: (name,)} for name in trained)
    if components := axes(r):
        yield from ({kind: components} for kind in COMPONENTS)
    yield {"inputs": axes(d_in)}
    yield {"outputs": axes(d_out)}
    yield from ({"unchanged_by": {name: 1}} for name in trained)
    yield from ({"unchanged_by": {one: 1, other: -1}} for one, other in combinations(trained, 2))
    if r:
        yield {"rank": 1}
    yield from ({"keeps": (measure,)} for measure in MEASURES)
    for side, size in (("rows", d_out), ("columns", d_in)):
        yield from ({"norms_are": {side: n}} for n in trained if f.tensors[n].numel() == size)
    yield from ({fact: True} for fact in FACTS)


def declared(law: Laws, laws: Laws) -> bool:
    """Whether a law, one thing of one kind, is among those."""
    ((kind, value),) = law.items()
    if any(other in laws for other in FOLLOWS.get(kind, ())):
        return True
    if kind not in laws:
        kind = IMPLIED.get(kind, kind)
    known = laws.get(kind)
    if known is None:
        return False
    if kind == "unchanged_by":
        return value in ((known,) if isinstance(known, Mapping) else known)
    if isinstance(value, tuple):
        return set(value) <= set(known)
    return True


def told_apart(case: AdaptedLayer) -> bool:
    """Widths and rank, so that a tensor's shape says which axis is which; and with a bias."""
    sizes = [case.linear.d_in, case.linear.d_out, case.option.get("r", 0)]
    return case.linear.bias and len({*sizes}) == 3 and 1 not in sizes


@cache
def standing(variant: str, examples: int) -> dict[str, tuple[Laws, int]]:
    """The candidates that no example breaks, by name, and in how many they said anything."""
    found: dict[str, tuple[Laws, int]] = {}
    broken: set[str] = set()
    layers = trained_layers(
        variant,
        base_dtypes=("float64",),
        adapter_dtypes=("float64",),
        tokens=((1,),),
        turns=(False,),
        least=2,
    )

    @settings(
        max_examples=examples,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(layers.filter(told_apart))
    def look(case: AdaptedLayer) -> None:
        f = function_of(attach(case))
        for law in candidates(f):
            if (name := str(law)) not in broken:
                if holds := _holds(f, law, case.seed):
                    found[name] = law, found.get(name, (law, 0))[1] + 1
                elif holds is False:
                    broken.add(name)

    look()
    return {name: told for name, told in found.items() if name not in broken}


def _holds(f: LayerFunction, law: Laws, seed: int) -> bool | None:
    """None where it says nothing of this layer."""
    try:
        return True if assert_laws(f, law, seed) else None
    except Violation:
        return False
    except (ll.LoraLiteError, RuntimeError, IndexError, ValueError):
        # It cannot even be tried: a tensor of that shape is none of that meaning.
        return False


def proposed(variant: str, examples: int = EXAMPLES) -> list[str]:
    """What holds and is not declared, as it is to be declared, with how often it was seen."""
    laws = ll.VARIANTS[variant].laws
    if blanks.of_the_variant(ll.VARIANTS[variant]):
        return []
    try:
        held = standing(variant, examples)
    except Exception as error:
        # A variant that fails, or takes no layer whose widths differ, is told of by claims.
        return [f"none could be measured: {type(error).__name__}: {error}"]
    told = []
    for law, count in held.values():
        ((kind, value),) = law.items()
        stronger: list[Laws] = [{other: True} for other in FOLLOWS.get(kind, ())]
        if kind in IMPLIED:
            stronger.append({IMPLIED[kind]: value})
        if kind == "unchanged_by" and len(value) > 1:
            stronger += [{kind: {name: 1}} for name in value]
        weaker = any(str(other) in held for other in stronger)
        if not weaker and not declared(law, laws):
            told.append(f'"{kind}": {value!r} holds in {count} of {count} examples')
    return told
