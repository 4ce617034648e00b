"""The figures that the audit shows of each method, on one fixed layer: tensors, init, identity by dtype."""

from hypothesis import strategies as st

from properties.judging.assertions import Violation
from properties.judging.claim import claim
from properties.judging.outcome import show
from properties.judging.portrait import Row, fixed_case, identity_by_dtype, init_of, tensors_of


def raise_what_is_wrong(rows: list[Row], *names: str) -> None:
    """One violation that names every row that is not as it should be, and what is wrong with it."""
    wrong = {" ".join(str(row.shown[name]) for name in names): row.wrong for row in rows if row.wrong}
    if wrong:
        raise Violation("\n".join(f"{name}: {why}" for name, why in wrong.items()), tensor=next(iter(wrong)))


@claim(st.just, stage="init", subject="lora_lite")
def test_the_tensors_of_a_fixed_layer_are_as_declared(variant: str) -> None:
    """Shape, dtype, whether it trains, and its first gradient."""
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


@claim(st.just, stage="init")
def test_the_identity_holds_in_every_pair_of_dtypes(variant: str) -> None:
    """Of the base and of the adapter, in eps of the base."""
    rows = identity_by_dtype(variant)
    show(identity=[row.to_json() for row in rows])
    raise_what_is_wrong(rows, "base", "adapter")
