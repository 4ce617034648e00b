"""Every silent failure that can be named is caught, and the instrument that says so can be trusted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

import lora_lite as ll
from lora_lite import base, checkpoint, linear, targets
from properties.audit.worth import mutant_rows
from properties.judging.assertions import Violation, assert_within
from properties.judging.claim import Claim, load_claims
from properties.judging.interrupting import undisturbed
from properties.judging.profiles import DEFAULT_EXAMPLES
from properties.mutation import CATALOGUE, Change, InjectionError, Mutant, load_catalogue, matrix, order
from properties.mutation.matrix import Row, run_cell, run_row, signal
from properties.mutation.reach import budget, reach
from properties.mutation.score import stays
from properties.regressions.travel import travelled
from strategies import AdaptedLayer, trained_layers
from strategies.options import accepts

pytestmark = pytest.mark.instruments

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

    The shrunk case travels: as a fixture, written and read back, it holds without the mutant and fails with
    it.
    """
    wanted = request.config.getoption("--variant") or list(ll.VARIANTS)
    known = CATALOGUE[mutant]
    request.node.user_properties.append(("mutant", mutant))  # without a row that follows, nothing was tried
    injected = replace(known, applies_to=tuple(variant for variant in known.applies_to if variant in wanted))
    whole = request.config.getoption("--matrix")
    full = settings().max_examples
    row = run_row(injected, examples=max(1, full // 10), full=full, whole=whole)
    request.node.user_properties.append(("row", json.dumps([vars(cell) for cell in row.cells])))
    if survivors := row.survivors:
        crashes: dict[str, list[str]] = {}
        for cell in (cell for cell in row.cells if cell.outcome == "crashed"):
            crashes.setdefault(cell.detail, []).append(cell.claim)
        told = [f"{claims[0]} (and {len(claims) - 1} more): {detail}" for detail, claims in crashes.items()]
        pytest.fail(
            f"{mutant} survives on {', '.join(survivors)}: {known.breaks}\n"
            f"It models {known.models}. Find the property that should notice it.\n"
            f"crashes (no kills): {told or 'none'}",
            pytrace=False,
        )
    # Asked first, of the first variant, with all examples: of fewer nothing was said.
    stated = order.stated().get(mutant, []) if full >= DEFAULT_EXAMPLES else []
    if known.applies_to[0] in wanted and row.contradicts(stated, whole=whole):
        pytest.fail(
            f"{mutant}: {' and '.join(stated)} should notice it, and {', '.join(row.killers)} did. Take its"
            " line from killers.json, and run python -m properties.mutation killers --all",
            pytrace=False,
        )
    if row.shrunk is not None and not known.by_chance:
        try:
            made = travelled(injected, row.shrunk, tmp_path)
        except ll.ConfigError:
            return  # a case that only the mutant lets be drawn, and that correct code refuses
        request.node.user_properties.append(("fixture", json.dumps(vars(made))))


def lora(*changes: Change) -> Mutant:
    return Mutant("for this test", "nothing", "nothing", ("lora",), changes)


SCALE_LOST = lora(Change(ll.LoRA.adapt_output, "self.scale", "1.0"))
ABSENT = lora(Change(ll.LoRA.adapt_output, "self.no_such_tensor", "x"))
FEW = budget(5, shrink=False)


def blind(case: AdaptedLayer) -> None:
    """Asserts nothing."""


def seeing(case: AdaptedLayer) -> None:
    raise Violation("seen")


def stumbling(case: AdaptedLayer) -> None:
    raise ZeroDivisionError("the check itself is broken")


def test_a_blind_property_kills_nothing() -> None:
    cell = run_cell(Claim("blind", blind, trained_layers, "forward"), SCALE_LOST, "lora", FEW)
    assert (cell.outcome, cell.examples) == ("survived", 5)


def test_a_crash_is_no_kill() -> None:
    cell = run_cell(Claim("stumbling", stumbling, trained_layers, "forward"), SCALE_LOST, "lora", FEW)
    assert cell.outcome == "crashed"
    assert "ZeroDivisionError" in cell.detail


def test_a_mutant_that_does_not_apply_is_no_crash_of_the_property() -> None:
    with pytest.raises(InjectionError, match="occurs 0 times"):
        run_cell(Claim("blind", blind, trained_layers, "forward"), ABSENT, "lora", FEW)


def test_what_fails_on_correct_code_catches_nothing_and_hides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a violation nor a crash there counts as a kill; what the others notice is in the row all the
    same.
    """
    broken = [
        Claim(check.__name__, check, trained_layers, "forward", share=0.1) for check in (seeing, stumbling)
    ]
    forward = load_claims()["forward_agrees_with_the_oracle"]
    monkeypatch.setattr(matrix, "applicable", lambda variant: [*broken, forward])
    row = run_row(SCALE_LOST, examples=5, full=5, whole=True)
    assert row.killers == [forward.name]
    for made in broken:
        cell = matrix.run_reached(made, SCALE_LOST, "lora", FEW, anyway=True)
        assert (cell.outcome, "fails on correct code" in cell.detail) == ("crashed", True)


def test_a_row_speaks_of_the_variants_that_it_was_tried_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant of several variants, in a run about one of them."""
    forward = load_claims()["forward_agrees_with_the_oracle"]
    monkeypatch.setattr(matrix, "applicable", lambda variant: [forward])
    row = run_row(SCALE_LOST, examples=5, full=5, whole=True)
    assert (row.variants, row.survivors) == (["lora"], [])
    (told,) = mutant_rows([Row("save_rounds_to_bfloat16", row.cells)])
    assert (told.applies_to, told.survives_on) == (["lora"], [])


def test_which_code_a_property_runs_does_not_depend_on_its_share() -> None:
    """Two cases each time, the same ones."""
    drawn: list[AdaptedLayer] = []
    for name, share in (("first", 1.0), ("first", 0.01)):
        reach(Claim(name, drawn.append, trained_layers, "forward", share=share), "hra")
    assert len(drawn) == 4
    assert drawn[:2] == drawn[2:]


def test_a_kill_tells_its_shrunk_case() -> None:
    how = budget(20, shrink=True)
    cell = run_cell(Claim("seeing", seeing, trained_layers, "forward"), SCALE_LOST, "lora", how)
    assert cell.outcome == "killed"
    simplest = (
        "AdaptedLayer(variant='lora', linear=LinearRecipe(d_in=1, d_out=1, bias=False, dtype='float32',"
        " weight='gaussian'"
    )
    assert cell.detail.startswith(simplest)


def test_the_signal_of_a_mutant_is_its_error_at_its_easiest_case() -> None:
    """By dtype, in tolerances; a property on which it has no effect has none."""
    forward, moved = (
        load_claims()[name] for name in ("forward_agrees_with_the_oracle", "base_keeps_every_bit")
    )
    found = signal(forward, SCALE_LOST, "lora", {}, examples=30, full=30)
    assert found["float32"] > 10
    killed = run_cell(forward, SCALE_LOST, "lora", budget(30, shrink=False))
    assert (killed.outcome, max(killed.signal.values()) > 1) == ("killed", True)
    assert signal(moved, SCALE_LOST, "lora", {}, examples=30, full=30) == {}


def test_a_signal_below_the_tolerance_is_kept_and_looked_for_again() -> None:
    """A dtype in which the mutant hides stays in the table; a faint one gets ten times the budget, until it
    is clear.

    Where nothing passes its tolerance it was something else that told, and there is no signal.
    """
    for share, grows, wanted in (
        (0.5, 0.0, 5 + 60),
        (1.5, 0.0, 5 + 60 + 600),
        (1.5, 0.1, 5 + 60 + 21),
        (40.0, 0.0, 5),
    ):
        seen: list[AdaptedLayer] = []

        def measured(
            case: AdaptedLayer, seen: list[AdaptedLayer] = seen, share: float = share, grows: float = grows
        ) -> None:
            seen.append(case)
            assert_within(torch.tensor(0.25), torch.tensor(0.0), 1.0, what="hidden", dtype=torch.bfloat16)
            assert_within(torch.tensor(share + grows * len(seen)), torch.tensor(0.0), 1.0, what="so far off")

        made = Claim("measured", measured, trained_layers, "forward")
        found = signal(made, SCALE_LOST, "lora", {}, examples=5, full=60)
        assert len(seen) == wanted
        assert found == (
            pytest.approx({"bfloat16": 0.25, "float32": share + grows * wanted}) if share > 1 else {}
        )


def test_the_signal_is_at_least_what_the_kill_showed() -> None:
    """The cases that are drawn for it may be others."""
    made = Claim("measured", blind, trained_layers, "forward")
    assert signal(made, SCALE_LOST, "lora", {"float32": 3.0}, examples=5, full=5) == {"float32": 3.0}


def test_a_second_variants_kill_has_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looked for its easiest case."""
    forward = load_claims()["forward_agrees_with_the_oracle"]
    monkeypatch.setattr(matrix, "applicable", lambda variant: [forward])
    first, second, *_ = run_row(
        CATALOGUE["the_scale_is_one_whatever_the_config"], examples=20, full=20, whole=True
    ).cells
    assert (first.outcome, second.outcome, first.variant != second.variant) == ("killed", "killed", True)
    assert max(first.signal.values()) > 1
    assert second.signal == {}


@pytest.mark.parametrize(
    "change",
    [
        Change(ll.LoRA.adapt_output, "self.no_such_tensor", "x"),
        Change(ll.LoRA.adapt_output, "self", "that"),
        Change(ll.LoRA.adapt_output, "self.scale", "self.scale"),
    ],
    ids=["absent", "ambiguous", "no change"],
)
def test_a_mutant_that_does_not_apply_is_reported(change: Change) -> None:
    with pytest.raises(InjectionError, match="occurs"), lora(change).injected():
        pytest.fail("injected nothing and said nothing")


@pytest.mark.parametrize(
    ("function", "before", "after", "why"),
    [
        (linear.linear_shape, "return _a", "pass; return _a", "no effect"),
        (targets._selected, "if not found: _a", "if not found: pass; _a", "no effect"),
        (base.device_of, "return next(_a, _b)", "return  next( _a,_b )", "occurs 1 times"),
        (checkpoint.load, "check_base: bool = True", "check_base: bool = False", "occurs 0 times"),
    ],
    ids=["plain", "with a generator", "spaces", "a default, which does not travel with the code"],
)
def test_a_change_of_nothing_is_reported(function: Any, before: str, after: str, why: str) -> None:
    with pytest.raises(InjectionError, match=why), lora(Change(function, before, after)).injected():
        pytest.fail("injected nothing and said nothing")


def test_a_name_that_nothing_has_is_reported() -> None:
    """In the change itself or in a function inside of it; a name that it imports is one."""
    for new in ("scaling", "(lambda: scaling)()"):
        loud = lora(Change(ll.LoRA.adapt_output, "self.scale", new))
        with pytest.raises(InjectionError, match="knows no scaling"), loud.injected():
            pytest.fail("a NameError in the library was taken for a silent failure")
    with lora(Change(ll.LoRA.adapt_output, "return _a", "from math import pi; return pi * _a")).injected():
        pass


def test_injection_is_undone_even_when_the_property_raises() -> None:
    original = ll.LoRA.adapt_output.__code__
    with pytest.raises(Violation), SCALE_LOST.injected():
        seeing(None if ll.LoRA.adapt_output.__code__ is original else ...)  # type: ignore[arg-type]  # it raises
    assert ll.LoRA.adapt_output.__code__ is original


def test_no_answer_of_a_mutant_reaches_correct_code() -> None:
    """Drawing remembers what the library accepts."""
    half = (("rho", 0.5),)
    with CATALOGUE["rho_below_one"].injected():
        assert accepts("eva", 8, 8, half)
    run_row(SCALE_LOST, examples=6, full=6, whole=False)
    assert not accepts("eva", 8, 8, half)


def test_no_run_under_a_mutant_is_compared_with_correct_code() -> None:
    """What an operation leaves without an interrupt is remembered too."""
    merged = CATALOGUE["merge_adds_the_update_twice"]
    _, _, correct = undisturbed("lora", "merge")
    with merged.injected():
        assert undisturbed("lora", "merge")[2] != correct
    assert undisturbed("lora", "merge")[2] == correct


def test_every_second_witness_is_a_property() -> None:
    assert stays().keys() <= load_claims().keys()


def test_every_mutant_of_the_catalogue_applies_and_is_another() -> None:
    """The equivalent ones too. No two of them compile to the same bytecode."""
    known: dict[frozenset[Any], str] = {}
    for mutant in CATALOGUE.values():
        with mutant.injected():
            pass
        assert known.setdefault(mutant.effect, mutant.name) == mutant.name
