"""Whole runs of pytest --audit in a process of their own: red, broken and dying ones leave a complete report
too.
"""

from pathlib import Path

import pytest

from properties.audit import kept_matrix
from properties.instruments.run_audit import run_audit

pytestmark = [pytest.mark.instruments, pytest.mark.slow]


def test_a_red_run_over_workers_is_a_complete_audit(tmp_path: Path) -> None:
    """Coverage and measurements of both workers; the exit code says that a verdict is BUGGY; nothing is
    recorded.

    With a fault inside, the suite's own instruments are not asked: they would all be red.
    """
    code, printed, data = run_audit(
        tmp_path,
        *(
            "properties/claims/test_portrait.py",
            "properties/claims/test_formula.py",
            "properties/instruments/test_fixtures.py",
        ),
        *("--variant=ia3", "--variant=lora"),
        *("--mutant=ia3_gate_twice", "-n2"),
    )
    assert code == pytest.ExitCode.TESTS_FAILED
    verdicts = {block["variant"]: block["verdict"] for block in data["blocks"]}
    assert verdicts == {"ia3": "BUGGY", "lora": "PARTIAL"}
    assert data["provenance"]["injected"] == "ia3_gate_twice"
    (fix,) = data["must_fix"]
    assert fix["suspects"][0]["place"].startswith("lora_lite/variants/ia3.py:")
    assert {failure["replay"].count("--mutant ia3_gate_twice ") for failure in fix["failures"]} == {1}
    assert data["suite"] == []
    assert "mutant: ia3_gate_twice is on, so tests of the suite's own instruments are deselected" in printed
    assert "written" not in printed.partition("audit: BUGGY")[0]
    ran = {file["path"]: file["lines_run"] == file["lines"] for file in data["gaps"]["files"]}
    assert ran["lora_lite/variants/lora.py"]
    assert "audit: BUGGY" in printed


def test_a_run_that_breaks_is_a_complete_audit(tmp_path: Path) -> None:
    """A file that cannot be imported, a worker that dies, and a test that passes beside them."""
    where = tmp_path / "tests"
    where.mkdir()
    (where / "conftest.py").write_text('pytest_plugins = ["properties.plugin"]\n')
    (where / "pytest.ini").write_text("[pytest]\nmarkers =\n    mutation: as in the suite\n")
    (where / "test_passes.py").write_text("def test_it(): pass\n")
    (where / "test_dies.py").write_text("import os\n\ndef test_it(): os._exit(1)\n")
    (where / "test_cannot.py").write_text("import no_such_module\n")
    code, _, data = run_audit(tmp_path / "audit", "-n1", "--continue-on-collection-errors", at=where)
    assert code != 0
    assert (data["verdict"], data["must_fix"]) == ("PARTIAL", [])
    died, cannot = sorted(data["suite"], key=lambda failure: "dies" not in failure["nodeid"])
    assert "test_dies.py" in died["nodeid"]
    assert "no_such_module" in cannot["message"]


NEVER = """
from properties.judging.assertions import Violation
from properties.judging.claim import claim
from properties.mutation import matrix
from properties.subjects.attaching import attach
from strategies import trained_layers

# A whole row of the matrix takes half a minute: here it has these columns.
COLUMNS = ("that_never_holds", "forward_agrees_with_the_oracle", "save_load_keeps_every_bit")
every = matrix.applicable
matrix.applicable = lambda variant: [made for made in every(variant) if made.name in COLUMNS]


@claim(trained_layers, stage="forward")
def test_that_never_holds(case):
    attach(case).model(case.x())
    raise Violation("it never does")
"""


def test_a_red_run_keeps_its_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A property that fails on correct code catches nothing, and loses no row; a mutant of all variants is
    judged on one.
    """
    (tmp_path / "test_never.py").write_text(NEVER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    mutants = ("lora_scale_lost", "save_rounds_to_bfloat16")
    code, printed, data = run_audit(
        tmp_path / "audit",
        *("--variant-module=test_never", "--variant=lora", "--matrix", "--no-record"),
        *("-m", "mutation or not mutation"),
        f"{tmp_path}/test_never.py",
        *(f"properties/instruments/test_mutants.py::test_mutant_is_killed[{name}]" for name in mutants),
    )
    assert code == pytest.ExitCode.TESTS_FAILED
    assert (data["blocks"][0]["verdict"], data["suite"]) == ("BUGGY", [])
    rows = {row["name"]: row for row in data["mutants"]}
    assert set(rows) == set(mutants)
    assert [rows[name]["survives_on"] for name in mutants] == [[], []]
    assert rows["save_rounds_to_bfloat16"]["applies_to"] == ["lora"]
    assert rows["lora_scale_lost"]["outcomes"]["that_never_holds"] == "crashed"
    assert all("that_never_holds" not in row["killers"] for row in rows.values())
    (never,) = (worth for worth in data["claims"] if worth["claim"] == "that_never_holds")
    assert (never["tolerance"], never["kills"]) == ("fails", [])
    assert (data["mutation"]["rows"], data["mutation"]["caught"]) == (2, 2)
    assert {row.mutant for row in kept_matrix.read(tmp_path / "audit" / kept_matrix.NAME).rows} == {*mutants}
    assert f"{data['mutation']['wanted'] - 2} mutants not run" in printed


OWN = """
from dataclasses import dataclass
from typing import ClassVar
import lora_lite as ll
from lora_lite.spec import zeros


@dataclass(frozen=True, kw_only=True)
class OwnConfig(ll.AdapterConfig):
    variant: ClassVar[str] = "own"
    unused: ClassVar[tuple[str, ...]] = ("r", "alpha")
    r: None = None
    alpha: None = None


@ll.register
class Own(ll.Variant):
    name = "own"
    config_class = OwnConfig

    @classmethod
    def specs(cls, shape, config):
        return {"offset": ll.ParamSpec((shape.d_out,), zeros, first_gradient="zero")}

    def adapt_output(self, x, y, layer):
        return y + self.offset
"""


def test_a_users_variant_is_audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No docstring and no reference, which is said; and what can be judged is: its declared first gradient is
    wrong, in the user's file.
    """
    (tmp_path / "own_variant.py").write_text(OWN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code, _, data = run_audit(
        tmp_path / "audit",
        "--variant-module=own_variant",
        "--no-record",
        "--variant=own",
        "properties/claims/test_gradient.py",
        "-k",
        "first_gradients_are_as_declared",
    )
    assert code == pytest.ExitCode.TESTS_FAILED
    (block,) = data["blocks"]
    assert (block["title"], block["formula"]) == ("Own", "not stated in the docstring")
    assert (block["reference"]["verdict"], block["reference"]["severity"]) == ("NO_REFERENCE", "HIGH")
    assert (block["verdict"], block["stages"]["gradient"]["state"]) == ("BUGGY", "broken")
    (fix,) = data["must_fix"]
    # Its own lines are traced too: what the failing claim has run of them, and nothing of lora_lite.
    files = {suspect["place"].partition(":")[0].rpartition("/")[2] for suspect in fix["suspects"]}
    assert files == {"own_variant.py"}
    assert fix["suspects"][0]["place"].endswith((" Own.specs", " Own.adapt_output"))
