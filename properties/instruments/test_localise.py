"""The place of a fault is found by what ran and by what is remembered, and ties are broken as it says."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

import lora_lite as ll
from properties.audit import fixes
from properties.audit.places import __main__ as places
from properties.audit.places import remember
from properties.audit.places.localise import (
    Known,
    Line,
    Memory,
    Place,
    Ran,
    Statement,
    likeliest_lines,
    likeness,
    localise,
)
from properties.audit.places.remember import memory, remembered
from properties.audit.places.trials import Trial, differing, true_place
from properties.audit.tracing import SMALLEST, Tracer, statements
from properties.instruments.sample_audit import audit
from properties.judging.assertions import Violation
from properties.judging.claim import Claim, load_claims
from properties.mutation import load_catalogue
from properties.mutation.reach import budget

pytestmark = pytest.mark.instruments

CLAIMS = (
    "init_agrees_with_the_oracle",
    "forward_agrees_with_the_oracle",
    "gradients_agree_with_the_oracle",
    "merged_layer_agrees_with_the_oracle",
    "file_holds_what_is_attached",
    "save_load_keeps_every_bit",
    "base_keeps_every_bit",
)


@pytest.mark.parametrize(
    ("mutant", "place"),
    [
        ("merge_adds_the_update_twice", "lora_lite/merging.py _merged"),
        ("lora_scale_lost", "lora_lite/variants/lora.py LoRA.adapt_output"),
        ("save_rounds_to_bfloat16", "lora_lite/checkpoint.py save"),
    ],
)
def test_a_planted_fault_is_named(mutant: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file first and its function among three, with no memory of the fault itself; and its line."""
    functions, lines = true_place(load_catalogue()[mutant])
    assert functions == {place}
    known = memory()
    others = [fault for fault in known.faults if fault.function != place]
    same = [fault for fault in known.faults if fault.function == place][1:]
    monkeypatch.setattr(fixes, "memory", lambda: replace(known, faults=[*others, *same]))
    report = audit(["ia3", "lora"], CLAIMS, mutant=mutant, traced=True)
    (fix,) = [fix for fix in report.must_fix if "lora" in {failure.method for failure in fix.failures}]
    file, _, name = place.partition(" ")
    assert fix.suspects[0].place.partition(":")[0] == file
    (named,) = [found for found in fix.suspects if found.place.partition(" ")[2] == name]
    assert {(file, line) for line in named.lines} & lines
    assert 0 < fix.suspects[0].score <= 1


def code(*functions: tuple[str, Sequence[int]]) -> dict[Line, Statement]:
    """One statement a line, all of one size."""
    return {
        (name.partition(" ")[0], line): Statement(name, name.partition(" ")[0], line, number, 1)
        for name, lines in functions
        for number, line in enumerate(lines)
    }


KNOWN = code(("a.py broken", (1, 2)), ("a.py shared", (5,)), ("b.py other", (1, 2, 3)), ("b.py last", (8,)))
BROKEN, SHARED, OTHER, LAST = ({("a.py", 1), ("a.py", 2)}, {("a.py", 5)}, {("b.py", 1)}, {("b.py", 8)})


def ran(claim: str, *lines: set[Line], variant: str | None = "lora") -> Ran:
    return Ran(claim, variant, frozenset().union(*lines))


def names(found: Sequence[Place]) -> list[str]:
    return [place.function.partition(" ")[2] for place in found]


def test_the_place_is_what_failing_claims_run_and_passing_ones_do_not() -> None:
    red = [ran("one", BROKEN, SHARED), ran("two", BROKEN, SHARED)]
    found = localise(red, [ran("three", SHARED, OTHER)], KNOWN)
    assert names(found) == ["broken", "shared"]
    assert str(found[0]) == "a.py:1 broken"
    assert sum(place.score for place in found) == pytest.approx(1)
    assert names(localise(red, [ran("three", BROKEN)], KNOWN)) == ["shared", "broken"]


def test_a_fault_of_every_variant_is_not_looked_for_in_one() -> None:
    """What every failing variant runs comes before what one of them alone does, and the other way round."""
    own, others = ran("one", SHARED, OTHER), ran("one", SHARED, LAST, variant="ia3")
    # That a failing variant's other claims pass does not speak for what it runs.
    for green in ([], [ran("two", SHARED)]):
        assert names(localise([own, others], green, KNOWN, variant="lora"))[0] == "shared"
    assert names(localise([own], [others], KNOWN, variant="lora"))[0] == "other"


def test_equal_places_are_ordered_by_module_statements_file_and_line() -> None:
    red = [ran("one", {("b.py", 1), ("b.py", 2)}, LAST, SHARED)]
    assert names(localise(red, [], KNOWN)) == ["other", "shared", "last"]
    assert names(localise(red, [], KNOWN, module="a.py")) == ["shared", "other", "last"]
    larger = KNOWN | {("b.py", 2): replace(KNOWN["b.py", 2], size=7)}
    assert [localise(red, [], of)[0].lines for of in (KNOWN, larger)] == [(1, 2), (2, 1)]


def test_known_faults_lead_to_their_function_and_unknown_claims_to_none() -> None:
    red, green = [ran("one", BROKEN, SHARED)], [ran("two", OTHER)]
    faults = [Known("a.py shared", frozenset({"one"})), Known("a.py broken", frozenset({"two"}))]
    assert names(localise(red, green, KNOWN))[0] == "broken"
    assert names(localise(red, green, KNOWN, Memory(faults)))[0] == "shared"
    # A claim that is new, or was not judged in this run, changes nothing.
    for more in (frozenset({"gone"}), frozenset({"one", "gone"})):
        assert likeness({"one"}, [*faults, Known("x.py gone", more - {"one"})], {"one", "two"}).keys() == {
            "a.py shared"
        }
    unjudged = [Known("a.py shared", frozenset({"one", "gone"}))]
    assert likeness({"one"}, unjudged, {"one", "two"}) == {"a.py shared": 1.0}
    assert likeness({"new"}, faults, {"new", "two"}) == {}
    assert likeness({"one", "new"}, faults, {"one", "new"})["a.py shared"] == 1
    # A function that is no longer there is in no list.
    assert names(localise(red, green, KNOWN, Memory([Known("gone.py f", frozenset({"one"}))])))[0] == "broken"


def test_a_step_that_is_left_out_leads_to_the_one_before_it() -> None:
    """Where the claim always ran it while it held; not in a function that it had never entered."""
    always = {("a.py broken", 0), ("a.py broken", 1), ("b.py other", 0), ("b.py other", 1), ("b.py other", 2)}
    held = Memory((), {"one": always}, {"one": always})
    red = [ran("one", BROKEN, OTHER, LAST)]
    found = localise(red, [], KNOWN, held)
    assert names(found)[0] == "other"
    assert {place.function: place.why["strays"] for place in found} == {
        "b.py other": 1.0,
        "a.py broken": 0.0,
        "b.py last": 0.0,
    }
    whole = [ran("one", BROKEN, {("b.py", 1), ("b.py", 2)})]
    assert localise(whole, [], KNOWN, held)[0].lines == (2, 1)


def test_lines_of_likelier_functions_come_first() -> None:
    places_ = [Place("a.py f", "a.py", (3, 1, 2), 0.8, {}), Place("b.py g", "b.py", (9,), 0.2, {})]
    assert likeliest_lines(places_) == [("a.py", 3), ("a.py", 1), ("a.py", 2), ("b.py", 9)]
    closer = [replace(places_[0], score=0.5), replace(places_[1], score=0.3)]
    assert likeliest_lines(closer)[1] == ("b.py", 9)


def test_the_smallest_failing_case_is_traced_apart() -> None:
    """The other cases' lines stay with the test."""
    made = load_claims()["merged_layer_agrees_with_the_oracle"]
    tried: list[object] = []

    def check(case: object) -> None:
        if not tried:
            # Runs what no other case does.
            with suppress(ll.NotAttachedError):
                ll.detach(nn.Linear(1, 1))
        tried.append(case)
        made.check(case)
        raise Violation("wrong")

    tracer = Tracer()
    with tracer.during("test"), pytest.raises(Violation):
        Claim("failing", check, made.cases, made.stage).run("lora", budget(3, shrink=True))
    lines = tracer.lines_of()
    assert lines["test"] - lines["test" + SMALLEST]
    assert any(file == "lora_lite/merging.py" for file, _ in lines["test" + SMALLEST])
    assert tried[-1] == tried[-2]


def test_what_is_remembered_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the steps of a function that has another number of statements now."""
    steps = sorted({statement.step for statement in statements().values()})
    function = steps[0][0]
    always, ever = {"a": frozenset(steps[:3])}, {"a": frozenset(steps[:5])}
    data = remembered([Known(function, frozenset({"a"}))], always, ever)
    monkeypatch.setattr(remember, "MEMORY", tmp_path / "memory.json")

    def read() -> Memory:
        (tmp_path / "memory.json").write_text(json.dumps(data))
        memory.cache_clear()
        try:
            return memory()
        finally:
            memory.cache_clear()

    assert read() == Memory([Known(function, frozenset({"a"}))], always, ever)
    data["steps"][function] += 1
    assert function not in {step[0] for step in read().ever["a"]}
    (tmp_path / "memory.json").unlink()
    assert memory.__wrapped__() == Memory()


def test_what_is_committed_is_of_this_library() -> None:
    """Small, and new enough that most of its functions and claims are still there."""
    assert remember.MEMORY.stat().st_size < 100_000
    known, now = memory(), {statement.function for statement in statements().values()}
    assert sum(fault.function in now for fault in known.faults) > 0.8 * len(known.faults) > 100
    assert sum(claim in load_claims() for claim in known.ever) > 0.8 * len(known.ever) > 100
    measured = remember.figures()
    assert measured is not None
    # The first row is of a fault that nothing like it is known of; to know more helps.
    new, known_places = measured.rows[:2]
    assert (new["left_out"], known_places["left_out"]) == ("faults on its lines", "the fault itself")
    assert 0 < new["function_first"] < known_places["function_first"]


def test_trials_are_read_as_they_were_written() -> None:
    trial = Trial(
        "m",
        "lora",
        frozenset({"a.py broken"}),
        frozenset(BROKEN),
        (ran("one", BROKEN),),
        (ran("two", OTHER),),
    )
    table: dict[frozenset[Line], int] = {}
    text = "\n".join([*places.write(trial, table), *places.write(replace(trial, mutant="n"), table)])
    assert places.read(text) == ([trial, replace(trial, mutant="n")], table)
    assert text.count('"number"') == 2


def test_a_changed_line_is_told_from_its_neighbours() -> None:
    before = "def f(x):\n    y = x + 1\n    for z in y:\n        g(z)\n    return y\n"
    for old, new, wanted in (
        ("x + 1", "x - 1", {2}),
        ("        g(z)\n", "        g(z + 1)\n", {4}),
        ("return y", "return -y", {5}),
    ):
        codes = [compile(text, "f.py", "exec") for text in (before, before.replace(old, new))]
        assert differing(*codes) == wanted
    codes = [
        compile(text, "f.py", "exec")
        for text in (before, before.replace("    return", "    h()\n    return"))
    ]
    assert differing(*codes) <= {3, 4, 5}
    assert differing(codes[0], codes[0]) == set()
