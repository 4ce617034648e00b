"""Other libraries as subjects: one method of each from end to end, and what is made of what one lacks."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
import torch
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st

from properties.audit import elsewhere, subjects
from properties.judging import apart
from properties.judging.claim import ANY, Claim, load_claims_of_any
from properties.judging.outcome import HELD, NOT_APPLICABLE, NOT_JUDGED, NotJudgedError, Outcome
from properties.subjects.introspection import families
from properties.subjects.library import LibraryCase, Method, RefusedError, refusing
from properties.subjects.living import LIBRARIES, library, methods_of, names_of, trained_cases
from strategies import LinearRecipe
from strategies.recipes import pasteable

pytestmark = pytest.mark.instruments

QUICK = settings(
    max_examples=5,
    database=None,
    derandomize=True,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
# A method of each library, and what breaks on its simplest case: each is a finding.
BROKEN = {
    "lora_lite:lora": set[str](),
    "peft:lora": set[str](),
    "peft:ia3": set[str](),
    "lycoris:lora": {
        "unmerging_gives_it_back",
        "merging_twice_changes_nothing_more",
        "a_loaded_adapter_trains_on",
        "what_is_dropped_is_drawn_anew",
    },
    "litgpt:lora": set[str](),
    "loralib:lora": set[str](),
    "lora_pytorch:lora": {"gradients_are_those_of_the_forward", "the_gradient_of_the_input_is_the_formulas"},
}


@pytest.mark.parametrize("method", BROKEN)
def test_one_method_of_each_library_from_end_to_end(method: str) -> None:
    """All claims on the simplest case: what breaks is what is known to break, and nothing crashes."""
    name = method.partition(":")[0]
    if missing := library(name).missing():
        pytest.skip(f"not judged: {missing}")
    broken = set()
    for claim in load_claims_of_any().values():
        if claim.standing_of(method).state is None:
            try:
                claim.run(method, QUICK)
            except AssertionError:
                broken.add(claim.name)
            except NotJudgedError:
                # lora-pytorch's init, of which no law is stated.
                continue
    assert broken == BROKEN[method]


def test_every_library_has_such_a_method() -> None:
    assert {method.partition(":")[0] for method in BROKEN} == set(LIBRARIES)


def test_peft_has_its_registry() -> None:
    """At least thirty tuners; and each switch of LoRA is a method of its own."""
    methods = methods_of("peft")
    assert len({method.partition("+")[0] for method in methods}) >= 30
    assert {"peft:lora+use_dora=True", "peft:hra+apply_GS=True", "peft:lora+init_lora_weights=pissa"} <= {
        *methods
    }


def test_a_missing_library_is_not_judged_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(library("loralib")), "missing", lambda self: "loralib is not installed")
    assert methods_of("loralib") == ["loralib"]
    standings = {claim.standing_of("loralib") for claim in load_claims_of_any().values()}
    assert {(standing.state, standing.why) for standing in standings} == {
        (NOT_JUDGED, "loralib is not installed")
    }
    field = subjects.field_of([], ["loralib"], command="pytest", seconds=0)
    assert field.rows[0].verdict == "not judged"


def test_what_is_all_refused_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> Any:
        raise ValueError("not this one")

    monkeypatch.setattr(type(library("lora_lite")), "attach", refuse)
    with pytest.raises(NotJudgedError, match="drawn settings are refused, the last by ValueError: not this"):
        load_claims_of_any()["the_base_does_not_train"].run("lora_lite:lora", QUICK)


@pytest.mark.parametrize(
    ("error", "clear"),
    [
        (ValueError("r must be even"), True),
        (ValueError(), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (KeyError("r"), False),
    ],
)
def test_what_is_a_clear_refusal(error: Exception, clear: bool) -> None:
    assert RefusedError(error).clear is clear


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("if 1 < 2:\n    raise RuntimeError(\n        'no bias')", RefusedError),
        ("torch.ones(2) @ torch.ones(3)", RuntimeError),
    ],
)
def test_a_mutants_refusal_is_one(source: str, kind: type[Exception]) -> None:
    """There is no file in which its lines could be read."""
    with pytest.raises(kind), refusing():
        exec(compile(source, "<mutant>", "exec"), {"torch": torch})


@dataclass
class Config:
    """One of each kind of field."""

    r: int = 256
    alpha: int = 8
    scaling: float = 25.0
    some_dropout: float = 0.2
    seed: int = 1
    name: str = "db1"
    sparse: bool = False
    init: bool | Literal["gaussian", "steps_[number]"] = True


def test_settings_are_read_off_a_config() -> None:
    """A family for each other position of a switch; numbers small, dropout off, seeds and text left alone."""
    found = families(Config)
    assert list(found) == ["", "sparse=True", "init=False", "init=gaussian", "init=steps_4"]
    drawn = dict(find(found["sparse=True"].settings, lambda given: dict(given).get("scaling") == 12.5))
    assert drawn == {"r": 2, "alpha": 16, "scaling": 12.5, "some_dropout": 0.0, "sparse": True}
    for made in found.values():
        assert find(made.settings, lambda given: True) == made.simplest


def test_what_drawing_leaves_at_its_first_value_is_tried_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once each, r again since it is refused, and no more than half as many as were drawn."""
    found = families(Config)[""]
    made = Method("some", found.settings, frozenset(), simplest=found.simplest, apart=found.apart)
    monkeypatch.setattr(apart, "method_of", lambda method: made)
    tried: list[Any] = []

    def check(case: LibraryCase) -> None:
        tried.extend(pair for pair in case.settings if pair not in found.simplest)
        if ("r", 1) in case.settings:
            raise RefusedError(ValueError("r = 1"))

    simple = LibraryCase("its:some", LinearRecipe(2, 2, False), found.simplest)
    drawn = st.integers(0, 99).map(lambda number: replace(simple, seed=number))
    meter = Claim("c", check, lambda method: drawn, "forward", subject=ANY).run(
        "its:some", settings(QUICK, max_examples=8)
    )
    assert tried == [("alpha", 3), ("r", 1), ("scaling", 12.5), ("r", 4)]
    assert (meter.examples, meter.shown) == (11, {"refused": 1})
    judged = [replace(simple, settings=s) for some in found.apart.values() for s in some[:1]]
    assert not [*apart.left_out("its:some", [simple, simple, *judged])]


def test_settings_are_tried_where_hypothesis_searches_nothing() -> None:
    """A search inside of a drawn case is refused, and the claim would judge no method."""
    if missing := library("peft").missing():
        pytest.skip(f"not judged: {missing}")
    few = settings(max_examples=1, database=None, deadline=None)
    load_claims_of_any()["every_setting_matters"].run("peft:miss+init_weights=mini", few)


def test_names_on_the_command_line() -> None:
    assert names_of("peft:lora+use_dora=True") == {
        "peft:lora+use_dora=True",
        "lora+use_dora=True",
        "lora",
    }


def test_the_table_tells_what_came_of_each_claim(tmp_path: Any) -> None:
    """Held, broken and refused; all else was not run; and the pages are written."""
    outcomes = [
        Outcome("the_base_does_not_train", "lora_lite:lora", "init", HELD, budget=60, examples=9),
        Outcome("the_base_keeps_every_bit", "lora_lite:lora", "attach", "broken", "off", recipe="Case(<1>)"),
        Outcome(
            "the_same_seed_gives_the_same_adapter",
            "lora_lite:lora",
            "init",
            HELD,
            budget=60,
            shown={"refused": 3},
        ),
    ]
    field = subjects.field_of(outcomes, ["lora_lite:lora"], command="pytest <x>", seconds=1)
    (row,) = field.rows
    assert (row.verdict, row.held, row.broken, row.refused) == ("broken", 2, 1, 0.25)
    states = {o.claim: o.state for o in row.outcomes}
    assert states["a_multiplier_scales_what_is_added"] == NOT_APPLICABLE
    assert states["train_and_eval_agree"] == NOT_JUDGED
    written = subjects.write(field, tmp_path)
    assert [path.name for path in written] == ["subjects.html", "subjects.md", "subjects.json"]
    assert "Case(&lt;1&gt;)" in (tmp_path / "subjects" / "lora_lite-lora.html").read_text()
    assert 'href="subjects/lora_lite-lora.html"' in written[0].read_text()
    assert "lora_lite: 1 method (1 broken)" in written[1].read_text()


def test_the_failing_recipe_is_tried_in_every_library_that_has_the_method() -> None:
    """The same base, input and seed; a claim that breaks in one library alone is told from one that breaks in
    all.
    """
    methods = ["lora_pytorch:lora", "lora_lite:lora", "lora_lite:hra", "loralib:lora"]
    if missing := [m for m in methods if library(m.partition(":")[0]).missing()]:
        pytest.skip(f"not judged: {missing} are not installed")
    case = find(trained_cases("lora_pytorch:lora", dtypes=("float32",)), lambda case: True)
    name = "gradients_are_those_of_the_forward"
    broken = Outcome(name, case.method, "gradient", "broken", recipe=pasteable(case))
    assert elsewhere.told(broken, methods) == {"lora_lite:lora": HELD, "loralib:lora": HELD}
    dora = "peft:lora+use_dora=True"
    assert elsewhere.kin("lora_lite:dora", ["lora_lite:lora", dora, "peft:lora"]) == [dora]


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("lora", {"alpha": 3.0, "lora_dim": 2.0}), ("diag-oft", {"constraint": 0.5}), ("full", {})],
)
def test_what_lycoris_keeps_of_its_settings_is_what_an_algorithm_has(
    kind: str, kept: dict[str, float]
) -> None:
    """A rotation has a constraint under the name of alpha, and a full weight neither rank nor alpha."""
    if missing := library("lycoris").missing():
        pytest.skip(missing)
    settings_given = (("alpha", 3), ("lora_dim", 2), *([("constraint", 0.5)] if kind == "diag-oft" else []))
    case = LibraryCase(f"lycoris:{kind}", LinearRecipe(4, 4, False), settings_given)
    assert library("lycoris").attach(case.build(), case).settings() == kept
