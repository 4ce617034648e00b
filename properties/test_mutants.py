"""Every silent failure that can be named is caught, and the instrument that says so can be trusted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

import lora_lite as ll
from properties.assertions import Violation
from properties.mutants import CATALOGUE, Change, InjectionError, Mutant, load_catalogue
from properties.mutants.matrix import budget, run_cell, run_row, signal
from properties.mutants.witnesses import WITNESSES
from properties.registry import Property, load_properties
from properties.regressions.travel import travelled
from strategies import AdaptedLayer, trained_layers

load_catalogue()
CAUGHT = [name for name, mutant in CATALOGUE.items() if mutant.equivalent is None]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The mutants that show in one of the judged variants."""
    if "mutant" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--variant") or list(ll.VARIANTS)
        metafunc.parametrize("mutant", [name for name in CAUGHT if {*wanted} & {*CATALOGUE[name].applies_to}])


@pytest.mark.mutation
def test_mutant_is_killed(mutant: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """On each of its variants some property notices it; which ones do, and at what cost, goes to the matrix.

    The shrunk case travels: as a fixture, written and read back, it holds without the mutant and fails with it.
    """
    wanted = request.config.getoption("--variant") or list(ll.VARIANTS)
    known = CATALOGUE[mutant]
    injected = replace(known, applies_to=tuple(variant for variant in known.applies_to if variant in wanted))
    # Asked for by name or for the audit, the whole matrix is filled in; else the first kill is enough.
    whole = request.config.getoption("--audit") is not None or "mutation" in request.config.getoption("-m")
    row = run_row(injected, examples=settings().max_examples // 10, full=settings().max_examples, whole=whole)
    request.node.user_properties.append(("row", json.dumps([vars(cell) for cell in row.cells])))
    if survivors := row.survivors(injected.applies_to):
        crashes = {f"{cell.claim}: {cell.detail}" for cell in row.cells if cell.outcome == "crashed"}
        pytest.fail(
            f"{mutant} survives on {', '.join(survivors)}: {known.breaks}\n"
            f"It models {known.models}. Find the property that should notice it.\n"
            f"crashes (no kills): {sorted(crashes) or 'none'}",
            pytrace=False,
        )
    if row.shrunk is not None and not known.by_chance:
        made = travelled(injected, row.shrunk, tmp_path)
        request.node.user_properties.append(("fixture", json.dumps(vars(made))))


def lora(*changes: Change) -> Mutant:
    return Mutant("for this test", "nothing", "nothing", ("lora",), changes)


SCALE_LOST = lora(Change(ll.LoRA.adapt_output, "self.scale", "1.0"))
FEW = budget(5, shrink=False)


def always(variant: type[ll.Variant]) -> bool:
    return True


def blind(case: AdaptedLayer) -> None:
    """Asserts nothing."""


def seeing(case: AdaptedLayer) -> None:
    raise Violation("seen")


def stumbling(case: AdaptedLayer) -> None:
    raise ZeroDivisionError("the check itself is broken")


def test_a_blind_property_kills_nothing() -> None:
    cell = run_cell(Property("blind", blind, trained_layers, 1.0, always), SCALE_LOST, "lora", FEW)
    assert (cell.outcome, cell.examples) == ("survived", 5)


def test_a_crash_is_no_kill() -> None:
    cell = run_cell(Property("stumbling", stumbling, trained_layers, 1.0, always), SCALE_LOST, "lora", FEW)
    assert cell.outcome == "crashed"
    assert "ZeroDivisionError" in cell.detail


def test_a_kill_tells_its_shrunk_case() -> None:
    how = budget(20, shrink=True)
    cell = run_cell(Property("seeing", seeing, trained_layers, 1.0, always), SCALE_LOST, "lora", how)
    assert cell.outcome == "killed"
    simplest = (
        "AdaptedLayer(variant='lora', linear=LinearRecipe(d_in=1, d_out=1, bias=False, dtype='float32', weight='gaussian'"
    )
    assert cell.detail.startswith(simplest)


def test_the_signal_of_a_mutant_is_its_error_at_its_easiest_case() -> None:
    """By dtype, in tolerances; a property on which it has no effect has none."""
    how = budget(30, shrink=False)
    forward, moved = (load_properties()[name] for name in ("forward_agrees_with_the_oracle", "base_keeps_every_bit"))
    found = signal(forward, SCALE_LOST, "lora", how)
    assert found["float32"] > 10
    assert run_cell(forward, SCALE_LOST, "lora", how).outcome == "killed"
    assert signal(moved, SCALE_LOST, "lora", how) == {}


@pytest.mark.parametrize(
    "change",
    [
        Change(ll.LoRA.adapt_output, "no such text", "x"),
        Change(ll.LoRA.adapt_output, "self", "that"),
        Change(ll.LoRA.adapt_output, "self.scale", "self.scale"),
    ],
    ids=["absent", "ambiguous", "no change"],
)
def test_a_mutant_that_does_not_apply_is_reported(change: Change) -> None:
    with pytest.raises(InjectionError, match="occurs"), lora(change).injected():
        pytest.fail("injected nothing and said nothing")


def test_injection_is_undone_even_when_the_property_raises() -> None:
    original = ll.LoRA.adapt_output.__code__
    with pytest.raises(Violation), SCALE_LOST.injected():
        seeing(None if ll.LoRA.adapt_output.__code__ is original else ...)  # type: ignore[arg-type]  # it raises
    assert ll.LoRA.adapt_output.__code__ is original


def test_every_second_witness_is_a_property() -> None:
    assert set(WITNESSES) <= set(load_properties())


def test_every_mutant_of_the_catalogue_applies() -> None:
    """The equivalent ones too: their text is still there."""
    for mutant in CATALOGUE.values():
        with mutant.injected():
            pass
