"""A library's layer computes what the method's paper says, where its tensors are bound to our oracle."""

from functools import partial

import torch
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from properties.judging.assertions import assert_close, assert_holds, assert_within
from properties.judging.bound_laws import UntriedError, laws_of, life_function
from properties.judging.bound_oracle import Bound, said_gradients, said_output, said_weight
from properties.judging.claim import ANY, claim
from properties.judging.laws import assert_laws
from properties.judging.outcome import NotJudgedError, show, tally
from properties.judging.tolerance import Bounded, claim_bound
from properties.subjects.bindings import binding_of
from properties.subjects.library import LibraryCase, Method
from properties.subjects.living import library_cases, method_of, output, trained_cases
from strategies import gaussian


def wide(method: str) -> SearchStrategy[LibraryCase]:
    """Wide enough that the law of a random init shows."""
    widths = tuple(8 * width for width in method_of(method).widths)
    return library_cases(method, dtypes=("float32",), depths=(1,), widths=widths, tokens=((3,),))


def single(method: str, *, coarse: bool = True) -> SearchStrategy[LibraryCase]:
    """One layer, in half precision too unless it is to be exact."""
    binding = binding_of(method)
    dtypes = ("float32",) if binding is None else binding.dtypes
    dtypes = tuple(dtype for dtype in dtypes if coarse or dtype != "bfloat16")
    # Odd ones, that blocks do not divide, and one in which all factors are smaller than the whole.
    widths = method_of(method).widths
    widths = (*widths, 3, 5, 24) if widths == Method.widths else widths
    return trained_cases(method, dtypes=dtypes, depths=(1,), widths=widths, tokens=((3,),))


@claim(single, stage="forward", needs=("oracle",), subject=ANY, share=0.3)
def test_the_output_is_the_formulas(case: LibraryCase) -> None:
    """At trained tensors; the source of the formula is shown."""
    bound, x = Bound(case), case.x()
    show(source=bound.formula.source)
    got = output(bound.life.model, x)
    assert_close(got, said_output(bound, x), what="the output", like="the oracle's")


@claim(single, stage="gradient", needs=("oracle",), subject=ANY, share=0.3)
def test_the_gradient_of_the_input_is_the_formulas(case: LibraryCase) -> None:
    """At trained tensors."""
    _, found, wanted = _gradients(case)
    what = "the gradient of the input"
    assert_close(found["the input"], wanted["the input"], what=what, like="the oracle's")


@claim(single, stage="gradient", needs=("oracle",), subject=ANY, share=0.3)
def test_gradients_of_the_tensors_are_the_formulas(case: LibraryCase) -> None:
    """At trained tensors, zero where the formula stops them; and what trains is what the paper trains."""
    bound, found, wanted = _gradients(case)
    for symbol, tensor in bound.symbols.items():
        state = "trains, and is frozen" if tensor.requires_grad else "is frozen, and trains"
        right = tensor.requires_grad == (symbol in bound.formula.trains)
        assert_holds(right, claim=f"{symbol} {state} in the paper")
    for name in bound.trained:
        assert_close(found[name], wanted[name], what=f"the gradient of {name}", like="the oracle's")


@claim(partial(single, coarse=False), stage="forward", needs=("oracle",), subject=ANY, share=0.1)
def test_the_layer_keeps_the_laws_of_the_formula(case: LibraryCase) -> None:
    """Of the library's own layer, whatever its tensors hold: a second line of evidence beside the formula."""
    bound = Bound(case)
    laws, f = laws_of(bound), life_function(bound)
    if not laws:
        raise NotJudgedError(f"{bound.binding.oracle} has no law that a library's layer could be tried on")
    for name in laws:
        try:
            assert_laws(f, laws, case.seed, only=name)
        except UntriedError:
            tally(f"the law {name}", 0)


@claim(wide, stage="init", needs=("oracle",), subject=ANY, share=0.2)
def test_init_keeps_the_laws_of_the_formula(case: LibraryCase) -> None:
    """Of what attach puts into the tensors: zeros, constants, support and size, orthogonality."""
    bound = Bound(case)
    now = {s: t.detach().double() if t.is_floating_point() else t for s, t in bound.symbols.items()}
    laws = bound.formula.init_laws(*bound.base, now, bound.options, None)
    if not laws or not bound.options.get("lawful", True):
        raise NotJudgedError(f"no law of this init: {bound.options}")
    for law in laws:
        error = claim_bound(law.magnitude, case.dtype)
        assert_within(law.got, law.wanted, error, what=f"the init law {law.name}", like="kept")


@claim(single, stage="merge", needs=("oracle", "merge"), subject=ANY, share=0.3)
def test_the_merged_weight_is_the_formulas(case: LibraryCase) -> None:
    """And so is the bias."""
    bound = Bound(case)
    weight, bias = said_weight(bound)
    bound.life.merge()
    base = bound.life.base()
    assert_close(base["0.weight"], weight, what="the merged weight", like="the oracle's")
    if "0.bias" in base:
        assert_close(base["0.bias"], bias, what="the merged bias", like="the oracle's")


def _gradients(case: LibraryCase) -> tuple[Bound, dict[str, Tensor], dict[str, Bounded]]:
    """Those that the library's layer has, and those that the formula has."""
    bound, found, upstream = bound_gradients(case)
    return bound, found, said_gradients(bound, case.x(), upstream)


def bound_gradients(case: LibraryCase) -> tuple[Bound, dict[str, Tensor], Tensor]:
    """Those that the library's layer has, of its output times what is given third (tokens, d_out)."""
    bound, x = Bound(case), case.x().requires_grad_()
    upstream = gaussian(case.seed, "upstream", (3, case.linear.d_out), case.dtype)
    leaves = {"the input": x, **bound.trained}
    y = bound.life.model(x)
    found = torch.autograd.grad(y, list(leaves.values()), upstream, allow_unused=True)
    gradients = {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }
    return bound, gradients, upstream
