"""The reference table as plain data: each oracle as it states itself, and who is bound to it."""

from dataclasses import dataclass, field
from math import prod

import lora_lite as ll
from lora_lite.linear import LinearShape
from properties.audit.documents import of_variant, oracle_formula
from properties.audit.methods import shapes
from properties.audit.provenance import version_of
from properties.oracles import ORACLES
from properties.oracles.field import FORMULAS
from properties.subjects.bindings import BINDINGS
from properties.subjects.living import LIBRARIES, library, methods_of
from strategies.options import ALPHAS, build_config, own_options

# Inputs and outputs of the layers that are looked at; the first is the one that figures are of.
SIZES = ((12, 8), (24, 8), (12, 16))


@dataclass(frozen=True)
class Part:
    """One symbol of the formula."""

    symbol: str
    shape: str
    trains: bool


@dataclass(frozen=True)
class Setting:
    """tried: the values that are drawn, the first one where nothing else is said. does: which option of the
    formula it sets, and what to, or why it says nothing of the function. refused: what is not taken alone.
    """

    name: str
    tried: str
    does: str
    refused: str = ""


@dataclass(frozen=True)
class Follower:
    """One method of one library, bound to the formula. why: what cannot be told of it here, "" for nothing.

    layer     inputs and outputs of the layer that figures are of
    trained   numbers that learn on it, of so many that it has
    identity  whether it changes nothing at first
    merges    the library folds it into the weight
    fixed     options that no setting changes: the reading of the formula that it follows
    dtypes    in which it is compared
    """

    method: str
    layer: tuple[int, int] = (0, 0)
    parts: list[Part] = field(default_factory=list)
    trained: int = 0
    of: int = 0
    identity: str = ""
    init: list[str] = field(default_factory=list)
    laws: list[str] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    fixed: dict[str, str] = field(default_factory=dict)
    merges: bool = False
    dtypes: list[str] = field(default_factory=list)
    why: str = ""


@dataclass(frozen=True)
class Entry:
    """One formula. title: the first paragraph of its oracle's header, paper and equation; text: the rest."""

    name: str
    title: str
    text: list[str]
    source: str
    trains: list[str]
    affine: bool
    followers: list[str]

    @property
    def checked(self) -> bool:
        """Whether it was compared with a text: then its header has a paragraph on that."""
        return any(text.startswith("Looked up: ") for text in self.text)


@dataclass(frozen=True)
class Contents:
    """What can be told without building a layer.

    versions: of the libraries, or why one is not judged. without: methods that no formula is bound to.
    """

    versions: dict[str, str]
    entries: list[Entry]
    without: dict[str, list[str]]


def contents() -> Contents:
    """Of all oracles, and of all libraries that are installed."""
    names = [name for name in LIBRARIES if name != "lora_lite"]
    versions = {name: library(name).missing() or version_of(library(name).package) for name in names}
    ours = [_own_entry(name) for name in ORACLES if name not in FORMULAS]
    entries = sorted((*map(_entry, FORMULAS), *ours), key=lambda entry: entry.name)
    return Contents(versions, entries, {name: _without(name) for name in names})


def _without(name: str) -> list[str]:
    """Those of a library as it is installed that no binding names; a switch is bound with its method."""
    if library(name).missing():
        return []
    families = dict.fromkeys(method.partition("+")[0] for method in methods_of(name))
    return [family.partition(":")[2] for family in families if family not in BINDINGS]


def _entry(name: str) -> Entry:
    formula = FORMULAS[name]
    followers = [method for method, binding in BINDINGS.items() if binding.oracle == name]
    return Entry(
        name,
        *_paragraphs(formula.text),
        formula.source,
        [*formula.trains],
        formula.affine,
        followers,
    )


def _own_entry(name: str) -> Entry:
    """Of a method that lora_lite alone has."""
    trains = sorted(ORACLES[name].trained or ())
    return Entry(name, *_paragraphs(oracle_formula(name)), "paper", trains, True, [f"lora_lite:{name}"])


def _paragraphs(text: str) -> tuple[str, list[str]]:
    """The first, and the others."""
    title, *rest = (" ".join(part.split()) for part in text.split("\n\n"))
    return title, rest


def own(name: str) -> Follower:
    """lora_lite's variant without a binding, as it declares itself: claims of its own judge whether that is
    so.
    """
    variant, about = ll.VARIANTS[name], of_variant(ll.VARIANTS[name])
    config, (d_in, d_out) = build_config(name, ()), SIZES[0]
    cases = [variant.specs(LinearShape(*size, True), config) for size in SIZES]
    known = [{"d_out": size[1], "d_in": size[0], "r": config.r or 0} for size in SIZES]
    parts = [
        Part(n, shapes.told([case[n].shape for case in cases], known), spec.first_gradient is not None)
        for n, spec in cases[0].items()
    ]
    values = {"r": (2, 1, 4), "alpha": ALPHAS, **own_options(name)}
    return Follower(
        f"lora_lite:{name}",
        SIZES[0],
        parts,
        sum(prod(spec.shape) for spec in cases[0].values() if spec.first_gradient is not None),
        d_in * d_out + d_out,
        about.sections.get("Identity at init", "not stated"),
        [about.sections.get("Tensors", "not stated")],
        settings=[
            Setting(option, ", ".join(map(str, tried)), "the option of that name")
            for option, tried in values.items()
            if option not in variant.config_class.unused
        ],
        merges=True,
        dtypes=["float32", "float64", "bfloat16", "float16"],
    )
