"""A library's layer as a function of the symbols of its formula, for the laws that the formula declares."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import lora_lite as ll
from properties.judging import starts
from properties.judging.bound_oracle import Bound
from properties.judging.laws import Laws
from properties.judging.layer_function import LayerFunction, Options, Tensors
from properties.judging.tolerance import Bounded
from properties.oracles.field import OURS
from properties.subjects.attaching import seed_inits
from properties.subjects.bindings.binding import tensors_of
from properties.subjects.library import Life
from properties.subjects.living import library, output

AT_INIT = "initial "


class UntriedError(Exception):
    """A law wants numbers that this library keeps in no tensor of its own."""


@dataclass(frozen=True)
class LifeFunction(LayerFunction):
    """What the library's layer gives where its tensors hold these, within the bound of the formula."""

    bound: Any = None
    # One adapter a base: to attach may take an SVD, and what an adapter holds is written for each output.
    lives: dict[tuple[bytes, ...], Life] = field(default_factory=dict)

    def output(self, x: Tensor) -> Bounded:
        said = super().output(x)
        life = self._life()
        self._write(life)
        return Bounded(output(life.model, x.to(self.bound.dtype)).double(), said.error)

    def _life(self) -> Life:
        """The library's layer on this base, holding whatever it was asked for last."""
        of = tuple(tensor.cpu().numpy().tobytes() for tensor in (self.W, self.b) if tensor is not None)
        if of not in self.lives:
            case = self.bound.case
            model: Any = case.build()
            with torch.no_grad():
                model[0].weight.copy_(self.W)
                if self.b is not None:
                    model[0].bias.copy_(self.b)
            seed_inits(case.seed)
            self.lives[of] = library(case.library).attach(model, case)
            self.lives[of].ready()
        return self.lives[of]

    def _write(self, life: Life) -> None:
        """Raises UntriedError where a symbol is no tensor of the layer, but made of some."""
        wanted = {n: t for n, t in self.tensors.items() if not n.startswith(AT_INIT)}
        for name, tensor in self._symbols(life).items():
            if tensor.shape != wanted[name].shape:
                raise UntriedError(name)
            if tensor.is_floating_point():
                with torch.no_grad():
                    tensor.copy_(wanted[name])
        for name, tensor in self._symbols(life).items():
            if not torch.equal(tensor, wanted[name].to(tensor.dtype)):
                raise UntriedError(name)

    def _symbols(self, life: Life) -> dict[str, Tensor]:
        binding = self.bound.binding
        return {**binding.symbols(tensors_of(life)), **binding.frozen(life.layer(0))}


def life_function(bound: Bound) -> LifeFunction:
    """Of what is bound; its tensors are the symbols now, and what they were at init."""
    formula = bound.formula

    def compute(x: Tensor, W: Tensor, b: Tensor | None, tensors: Tensors, options: Options) -> Tensor:
        now = {n: t for n, t in tensors.items() if not n.startswith(AT_INIT)}
        start = {n.removeprefix(AT_INIT): t for n, t in tensors.items() if n.startswith(AT_INIT)}
        return formula.forward(x, W, b, x.new_zeros(len(x), len(W)), now, start, options)

    def double(tensor: Tensor) -> Tensor:
        return tensor.detach().clone().double() if tensor.is_floating_point() else tensor.clone()

    now = {name: double(tensor) for name, tensor in bound.symbols.items()}
    start = {f"{AT_INIT}{name}": double(tensor) for name, tensor in bound.initial.items()}
    known = dict(bound.options)
    return LifeFunction(
        compute,
        *bound.base,
        {**now, **start},
        bound.options,
        frozenset(formula.trains),
        lambda d_in, d_out, options: dict(options) == known,
        dtype=bound.dtype,
        bound=bound,
    )


# These take off the weight what they put into A and B: on another base they start as another adapter.
MOVED = ("pissa",)
OF_OTHER_BASES = ("inputs", "outputs", "apart_from_the_base")
# Which setting of the library an option is made of, a binding does not say: nobody can give it another one.
OF_OTHER_SETTINGS = ("proportional_to", "one_more_zero", "composed_of", "repeated")


def laws_of(bound: Bound) -> Laws:
    """Those of the formula; of our own, those of lora_lite's variant, but for how it starts."""
    name, left = bound.binding.oracle, {*OF_OTHER_SETTINGS}
    laws = bound.formula.laws(bound.symbols, bound.options)
    if name in OURS:
        laws = ll.VARIANTS[name].laws
        left |= {*starts.KINDS, *(OF_OTHER_BASES if name in MOVED else ())}
    return {n: law for n, law in laws.items() if n not in left}
