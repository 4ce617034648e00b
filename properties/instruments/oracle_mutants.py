"""Each oracle of the field against the libraries that agree with it, under slips of the operators."""

import importlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, settings
from torch import Tensor

from properties.claims.any.test_formula_of_any import bound_gradients, single
from properties.judging.bound_oracle import Bound, said_gradients, said_output
from properties.judging.outcome import NotJudgedError
from properties.judging.tolerance import Bounded
from properties.mutation.generic import distinct, functions_of, mutants_of
from properties.mutation.mutant import Mutant
from properties.oracles import rotations
from properties.subjects.bindings import BINDINGS
from properties.subjects.library import LibraryCase, RefusedError
from properties.subjects.living import library, methods_of, output
from strategies import LinearRecipe


def _case(method: str, d_in: int, d_out: int, **given_: Any) -> LibraryCase:
    return LibraryCase(method, LinearRecipe(d_in, d_out, True), tuple(given_.items()), trained=True)


# What drawing seldom gives: factors smaller than the whole, stages of a butterfly, bounds that bind, depth.
SELDOM = [
    _case("lycoris:boft", 6, 8, lora_dim=2),
    _case("lycoris:boft", 6, 16, lora_dim=4, constraint=0.01),
    _case("lycoris:diag-oft", 6, 12, lora_dim=4, constraint=0.01),
    _case("lycoris:dylora", 6, 4, lora_dim=1, block_size=1, alpha=3),
    _case("lycoris:lokr+decompose_both=True", 24, 48, lora_dim=1, alpha=3, decompose_both=True),
    _case("lycoris:lokr+use_scalar=True", 24, 48, lora_dim=1, alpha=3, use_scalar=True),
    _case("peft:c3a", 12, 8, block_size=4),
    _case("peft:gralora", 12, 8, r=8, alpha=16, gralora_k=2, hybrid_r=3),
    _case("peft:lily", 6, 4, r=2, scaling=0.5),
    _case("peft:miss+init_weights=mini", 12, 6, r=3, mini_r=2, init_weights="mini"),
    _case("peft:peanut", 6, 8, r=8, depth=3, scaling=0.5),
    _case(
        "peft:psoft+use_cayley_neumann=True", 6, 8, r=3, num_cayley_neumann_terms=5, use_cayley_neumann=True
    ),
    _case("peft:miss+init_weights=bat", 12, 6, r=3, init_weights="bat"),
    _case("peft:oft", 12, 4, r=0, oft_block_size=4, num_cayley_neumann_terms=5),
    _case("peft:oft+coft=True", 12, 4, r=0, oft_block_size=4, coft=True, eps=0.5),
    _case("peft:oft+block_share=True", 12, 4, r=0, oft_block_size=4, block_share=True),
    *(_case(f"peft:road+variant={kind}", 6, 8, group_size=4, variant=kind) for kind in ("road_2", "road_4")),
    _case("peft:road", 6, 8, group_size=4),
    _case("peft:supertuning", 24, 12, r=2, lora_alpha=3.0, sparsity=0.9),
    _case("peft:vblora", 12, 6, r=2, num_vectors=5, vector_length=3, topk=3),
]
KINDS = ("arithmetic", "operand", "order", "arguments swapped")
# Switches that leave the formula as it is.
SAME = ("bypass_mode", "wd_on_out", "save_", "tlora+", "adalora+init")
FEW = settings(
    max_examples=10,
    database=None,
    derandomize=True,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Seen:
    """What a library gives of a case, as far as the oracle agrees, and how far rounding may take it."""

    bound: Bound
    x: Tensor
    upstream: Tensor
    got: dict[str, Tensor]
    error: dict[str, Tensor]

    def agreeing(self) -> set[str]:
        """Of output and gradients, what the formula as it is now gives as the library gave it."""
        x = self.x.double().requires_grad_()
        now = {name: leaf[0].detach().clone() for name, leaf in self.bound.leaves.items()}
        trained = {name: now[name].requires_grad_() for name in self.bound.trained}
        y = self.bound.output_of(x, now)
        leaves = {"the input": x, **trained}
        found = torch.autograd.grad((y * self.upstream).sum(), list(leaves.values()), allow_unused=True)
        slopes = {
            name: torch.zeros_like(leaf) if g is None else g
            for (name, leaf), g in zip(leaves.items(), found, strict=True)
        }
        now_given = {"the output": y.detach(), **slopes}
        return {
            name
            for name, got in self.got.items()
            if got.shape == now_given[name].shape
            and bool(((now_given[name] - got).abs() <= self.error[name]).all())
        }


def methods_bound_to(oracle: str) -> list[str]:
    """Of the libraries that are installed, each method and each of its switches."""
    roots = [name for name, binding in BINDINGS.items() if binding.oracle == oracle]
    names = {name.partition(":")[0] for name in roots}
    known = [m for name in names if not library(name).missing() for m in methods_of(name)]
    bound = [m for m in known if any(m == root or m.startswith(f"{root}+") for root in roots)]
    return [m for m in bound if not any(other in m for other in SAME)]


@cache
def seen_of(oracle: str) -> list[Seen]:
    """Cases of every method that is bound to it."""
    found: list[Seen] = []
    with warnings.catch_warnings():
        # Whether a library is loud is looked at elsewhere.
        warnings.simplefilter("ignore")
        for method in methods_bound_to(oracle):
            _collect(method, oracle, found)
    return found


def _collect(method: str, oracle: str, found: list[Seen]) -> None:
    @FEW
    @given(single(method, coarse=False))
    def collect(case: LibraryCase) -> None:
        _add(case, oracle, found)

    collect()
    for case in SELDOM:
        if case.method == method:
            _add(case, oracle, found)


def _add(case: LibraryCase, oracle: str, found: list[Seen]) -> None:
    try:
        bound, slopes, upstream = bound_gradients(case)
    except (RefusedError, NotJudgedError, RuntimeError):
        return
    if bound.binding.oracle != oracle:
        return
    x = case.x()
    wanted: dict[str, Bounded] = {"the output": said_output(bound, x)}
    wanted |= said_gradients(bound, x, upstream)
    got = {"the output": output(bound.life.model, x), **slopes}
    one = Seen(
        bound,
        x,
        upstream.double(),
        {name: tensor.detach().double() for name, tensor in got.items()},
        {name: value.error for name, value in wanted.items()},
    )
    if "the output" in (agreeing := one.agreeing()):
        found.append(replace(one, got={name: one.got[name] for name in agreeing}))


def slips(oracle: str) -> Iterator[Mutant]:
    """Of the formula, and not of its laws of init."""
    module = importlib.import_module(f"properties.oracles.field.{oracle}")
    shared = functions_of(rotations) if oracle == "oft" else ()
    for function in (*functions_of(module), *shared):
        if function.__name__ != "init_laws":
            yield from (slip for slip in distinct(mutants_of(function, ())) if _is_about(slip.breaks))


def _is_about(slip: str) -> bool:
    """Signs, factors and terms, transposes, axes, order: what a formula can have wrong and still run."""
    return slip.startswith(KINDS) or (slip.startswith("call dropped") and ".mT =>" in slip)


def survivors(oracle: str) -> tuple[list[str], int]:
    """The slips that agree with the library on every case, and how many were tried."""
    cases, left, tried = seen_of(oracle), [], 0
    for mutant in slips(oracle):
        tried += 1
        with mutant.injected():
            if not any(_notices(one) for one in cases):
                left.append(mutant.breaks)
    return left, tried


def _notices(one: Seen) -> bool:
    try:
        return one.agreeing() != set(one.got)
    except Exception:
        # A slip that is loud is noticed.
        return True
