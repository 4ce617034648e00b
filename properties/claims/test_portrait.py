"""The figures that the audit shows of each method, on one fixed layer: tensors, init, identity by dtype."""

import torch
from hypothesis import strategies as st

import lora_lite as ll
from properties.judging.assertions import Violation, assert_holds, assert_identical, assert_nonzero
from properties.judging.claim import claim
from properties.judging.docstrings import start_of, told_of
from properties.judging.outcome import show
from properties.judging.portrait import Row, fixed_case, identity_by_dtype, init_of, tensors_of
from properties.subjects import subject
from properties.subjects.attaching import attach
from properties.subjects.layer_runs import run_layers
from strategies.options import build_config


def raise_what_is_wrong(rows: list[Row], *names: str) -> None:
    """One violation that names every row that is not as it should be, and what is wrong with it."""
    wrong = {" ".join(str(row.shown[name]) for name in names): row.wrong for row in rows if row.wrong}
    if wrong:
        raise Violation("\n".join(f"{name}: {why}" for name, why in wrong.items()), tensor=next(iter(wrong)))


@claim(st.just, stage="init", subject="lora_lite")
def test_the_tensors_of_a_fixed_layer_are_as_declared(variant: str) -> None:
    """Shape, dtype, and whether it trains; its first gradient is shown."""
    case = fixed_case(variant)
    rows = tensors_of(case)
    show(case=repr(case), tensors=[row.to_json() for row in rows])
    raise_what_is_wrong(rows, "name")


@claim(st.just, stage="init", needs=("oracle",))
def test_the_init_of_a_fixed_layer_keeps_the_oracles_laws(variant: str) -> None:
    """Each with its share of the bound."""
    rows = init_of(fixed_case(variant))
    show(init=[row.to_json() for row in rows])
    raise_what_is_wrong(rows, "law")


@claim(st.just, stage="init", needs=("told tensors",), subject="lora_lite")
def test_tensors_are_what_the_docstring_says(variant: str) -> None:
    """Whether each is trained, and where it says "starts at" a number, or a setting, that number."""
    case = fixed_case(variant)
    attached, config = attach(case), build_config(variant, case.options)
    (live,), (initial,) = subject.tensors(attached.model).values(), attached.initial.values()
    for name, told in told_of(ll.VARIANTS[variant]).items():
        if name in initial:
            state = "trained" if live[name].requires_grad else "frozen"
            wanted = "trained" if told.trained else "frozen"
            found = f"{name} is {state}, and the docstring of {variant} says that it is {wanted}"
            assert_holds(state == wanted, claim=found)
            if (start := start_of(told, config)) is not None:
                wanted_at = torch.full_like(initial[name], start)
                what, like = f"{name} at init", f"at {told.start}, where the docstring says that it starts"
                assert_identical(initial[name], wanted_at, what=what, like=like)


@claim(st.just, stage="init", needs=("no identity",), subject="lora_lite")
def test_what_is_declared_no_identity_is_none(variant: str) -> None:
    """Else what asks for an identity would not be judged, and should be."""
    case = fixed_case(variant)
    (layer,) = run_layers(attach(case))
    with torch.no_grad():
        off = layer.y - case.build()(case.x())
    assert_nonzero(off, what='what a fresh adapter adds, whose identity is declared "none",')


@claim(st.just, stage="init", needs=("identity",))
def test_the_identity_holds_in_every_pair_of_dtypes(variant: str) -> None:
    """Of the base and of the adapter, in eps of the base."""
    rows = identity_by_dtype(variant)
    show(identity=[row.to_json() for row in rows])
    raise_what_is_wrong(rows, "base", "adapter")
