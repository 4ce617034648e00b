"""One recipe in several libraries: who agrees, who does not, and whose side the formula is on."""

from typing import Any

import pytest

from properties.audit.methods import kept
from properties.audit.methods.together import AGREES, OTHER, Meeting, meeting
from properties.audit.subjects import field_of
from properties.judging.outcome import BROKEN, HELD, NOT_JUDGED, Outcome
from properties.subjects.living import library

pytestmark = pytest.mark.instruments

LORA = ("lora_lite:lora", "peft:lora", "litgpt:lora", "loralib:lora")
FORMULA, INIT = "the_output_is_the_formulas", "init_keeps_the_laws_of_the_formula"


def met(oracle: str, *methods: str) -> Meeting:
    if missing := [m for m in methods if library(m.partition(":")[0]).missing()]:
        pytest.skip(f"not judged: {', '.join(missing)}: pip install --no-deps -r .ci/subjects.txt")
    return meeting(oracle, methods)


def states(found: Meeting) -> dict[str, tuple[str, str]]:
    return {one.method: (one.output, one.merged) for one in found.told}


@pytest.mark.parametrize(
    ("oracle", "methods"),
    [
        ("lora", LORA),
        ("dora", ("lora_lite:dora", "peft:lora+use_dora=True")),
        ("pissa", ("lora_lite:pissa", "peft:lora+init_lora_weights=pissa")),
        # peft holds the gate, lora_lite its offset from 1.
        ("ia3", ("lora_lite:ia3", "peft:ia3")),
        ("ia3_ff", ("lora_lite:ia3_ff", "lycoris:ia3+train_on_input=True")),
        ("delora", ("peft:delora", "lora_lite:delora")),
    ],
)
def test_libraries_that_agree(oracle: str, methods: tuple[str, ...]) -> None:
    """In what they give and in what they merge to, at settings of their own names."""
    found = met(oracle, *methods)
    assert states(found) == dict.fromkeys(methods, (AGREES, AGREES))
    assert found.side == "all agree"


def test_one_that_departs_is_told_with_the_side_of_the_paper() -> None:
    """findings/lycoris_loha_merge: the scale goes in twice."""
    found = met("loha", "peft:loha", "lycoris:loha")
    told = states(found)
    assert told["peft:loha"] == (AGREES, AGREES)
    assert told["lycoris:loha"][0] == AGREES
    assert told["lycoris:loha"][1].startswith("off by ")
    assert found.side == "the paper is with peft:loha; the paper is not with lycoris:loha"
    # Its gate leaves the bias out.
    found = met("ia3", "peft:ia3", "lycoris:ia3")
    assert found.side == "the paper is with peft:ia3; the paper is not with lycoris:ia3"


def test_a_fault_is_seen_by_who_departs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is in the first one, whose numbers the others get."""
    met("lora", *LORA)
    import loralib

    forward = loralib.Linear.forward

    def doubled(self: Any, x: Any) -> Any:
        return 2 * forward(self, x)

    monkeypatch.setattr(loralib.Linear, "forward", doubled)
    for methods in (LORA, LORA[::-1]):
        found = met("lora", *methods)
        wrong = [name for name, told in states(found).items() if told[0] != AGREES]
        assert wrong == ["loralib:lora"]
        right = ", ".join(method for method in methods if method not in wrong)
        assert found.side == f"the paper is with {right}; the paper is not with loralib:lora"


def test_another_reading_is_told_as_one() -> None:
    """LyCORIS rotates outputs where peft rotates inputs, and lora-pytorch has no scale."""
    found = met("oft", "peft:oft", "lycoris:diag-oft")
    assert "side = out, not in" in states(found)["lycoris:diag-oft"][0]
    assert found.side.endswith("the paper has side = in")
    found = met("lora", "peft:lora", "lora_pytorch:lora")
    assert states(found)["lora_pytorch:lora"][0] == f"{OTHER}alpha = 2, not 16"


def test_the_page_tells_who_follows_and_who_departs(tmp_path: Any) -> None:
    """By outcomes alone; what was not judged is named."""
    methods = ["lora_lite:lora", "lora_lite:hra", "lora_lite:eva", "lora_lite:antipasto"]

    def came(method: str, state: str, claim: str = FORMULA, why: str = "") -> Outcome:
        return Outcome(claim, method, "forward", state, why, budget=60)

    outcomes = [
        came(methods[0], HELD),
        came(methods[1], BROKEN),
        came(methods[2], NOT_JUDGED, INIT, "no law of this init"),
    ]
    outcomes += [came(methods[0], HELD, name) for name in kept.claims() if name not in kept.ALSO]
    field = field_of(outcomes, methods, command="pytest", seconds=1)
    says = {one.method: one.says for formula in kept.formulas_of(field.rows) for one in formula.methods}
    assert says["lora_lite:lora"] == "follows"
    assert says["lora_lite:hra"] == "departs: not so that the output is the formulas"
    assert says["lora_lite:eva"].startswith("not judged: ")
    assert "no law of this init" in says["lora_lite:eva"]
    assert methods[3] not in says
    written = kept.write(field, tmp_path)
    assert [path.name for path in written] == ["formulas.html", "formulas.md"]
    assert "departs: not so that the output is the formulas" in written[0].read_text()
    assert kept.write(field_of([], methods[3:], command="pytest", seconds=1), tmp_path) == []
