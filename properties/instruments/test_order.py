"""The order in which claims are asked changes how long a run takes, and nothing else."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import lora_lite as ll
from properties.judging.claim import load_claims
from properties.mutation import __main__ as program
from properties.mutation import load_catalogue, matrix, order, survey
from properties.mutation.matrix import ranked, run_row
from properties.mutation.mutant import Mutant, plain

pytestmark = pytest.mark.instruments

LORAS = ("lora_alpha_without_r", "lora_scale_lost", "lora_update_subtracted")


@pytest.fixture(autouse=True)
def _read_anew() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    """What was read of the files."""
    order.known.cache_clear()
    order.stated.cache_clear()
    order.ranking.cache_clear()


def test_the_file_speaks_of_what_there_is() -> None:
    """What is renamed is no error; but most of what it says has to hold, or it is of no use."""
    told = [(module, name, claims) for module, of in order.known().items() for name, claims in of.items()]
    claims = {claim for _, _, found in told for claim in found}
    assert len(claims & load_claims().keys()) > 0.9 * len(claims)
    changed = {(t.__module__, t.__qualname__) for m in load_catalogue().values() for t in m.targets}
    asked = {(module, name) for module, name, _ in told}
    assert len(changed & asked) > 0.9 * len(changed)


def test_claims_that_noticed_before_are_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the function, then of its module, then of any other; and none of the rest is left out."""
    mutant = load_catalogue()["lora_scale_lost"]
    function = plain(ll.LoRA.adapt_output)
    (module, name), path = (function.__module__, function.__qualname__), tmp_path / "order.json"
    own, beside, other = "merge_leaves_a_plain_layer", "base_gets_no_gradient", "identity_at_init"
    path.write_text(json.dumps({module: {name: [own], "LoRA.specs": [beside]}, "elsewhere": {"f": [other]}}))
    monkeypatch.setattr(order, "FILE", path)
    names = [claim.name for claim in ranked(mutant, "lora")]
    assert names[:3] == [own, beside, other]
    assert {*names} == {claim.name for claim in matrix.applicable("lora")}
    assert [claim.name for claim in ranked(mutant, "lora", [other])][:2] == [other, own]


def test_a_row_stops_at_the_claim_that_noticed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cell; and where that claim notices no longer, all the others are asked as before."""
    mutant, function = load_catalogue()["lora_scale_lost"], plain(ll.LoRA.adapt_output)
    path = tmp_path / "order.json"
    monkeypatch.setattr(order, "FILE", path)
    monkeypatch.setattr(order, "KILLERS", tmp_path / "killers.json")
    known = [load_claims()[name] for name in ("base_gets_no_gradient", "forward_agrees_with_the_oracle")]
    monkeypatch.setattr(matrix, "applicable", lambda variant: known)
    for first, cells in (("forward_agrees_with_the_oracle", 1), ("base_gets_no_gradient", 4)):
        path.unlink(missing_ok=True)
        forget()
        order.write([(function, first)])
        forget()
        row = run_row(mutant, examples=6, full=12, whole=False)
        assert (row.killers, len(row.cells)) == (["forward_agrees_with_the_oracle"], cells)
    order.state({mutant.name: ["forward_agrees_with_the_oracle"]}, [mutant.name])
    assert len(run_row(mutant, examples=6, full=12, whole=False).cells) == 1
    order.state({mutant.name: ["base_gets_no_gradient"]}, [mutant.name])
    order.write([(function, "forward_agrees_with_the_oracle")])
    order.known.cache_clear()
    row = run_row(mutant, examples=6, full=12, whole=False)
    assert [(c.claim, c.examples) for c in row.cells[:2]] == [("base_gets_no_gradient", n) for n in (6, 12)]
    assert row.killers == ["forward_agrees_with_the_oracle"]


def test_of_each_mutant_a_witness_is_stated_or_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two claims that notice; one where all were asked and no other does; else none."""
    mutant = load_catalogue()["lora_scale_lost"]
    seen, second = "forward_agrees_with_the_oracle", "gradients_agree_with_the_oracle"
    blind = ["base_keeps_every_bit", "base_gets_no_gradient"]
    ask = partial(survey.killers, mutant, examples=6, full=6)
    for asked, everything, wanted in (
        ([*blind, seen, second], False, [seen, second]),
        ([*blind, seen], False, []),
        ([*blind, seen], True, [seen]),
        (blind, True, []),
    ):
        claims = [load_claims()[name] for name in asked]
        monkeypatch.setattr(matrix, "applicable", lambda variant, claims=claims: claims)
        assert ask(everything=everything) == wanted
    cells = [matrix.Cell(name, mutant.name, "lora", "killed") for name in (seen, second, *blind)]
    (row,) = matrix.rows_of([*cells, matrix.Cell("other", mutant.name, "hra", "killed")])
    assert row.witnesses == [seen, second]


def test_a_mutant_that_never_ends_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is said of it, and the next run tries it again."""
    hangs, dies, seen = (load_catalogue()[name] for name in LORAS)
    claims = ["forward_agrees_with_the_oracle", "merged_layer_agrees_with_the_oracle"]

    def killers(mutant: Mutant, **how: object) -> list[str]:
        if mutant is dies:
            os._exit(1)
        while mutant is hangs:
            pass
        return claims

    monkeypatch.setattr(order, "KILLERS", tmp_path / "killers.json")
    monkeypatch.setattr(program, "load_catalogue", lambda: {m.name: m for m in (hangs, dies, seen)})
    monkeypatch.setattr(program, "killers", killers)
    monkeypatch.setattr(program, "warm", lambda variants: None)
    program._killers(program.arguments().parse_args(["killers", "--deadline", "1"]))
    assert json.loads((tmp_path / "killers.json").read_text()) == {seen.name: claims}
    assert f"{hangs.name}: not known yet\n{dies.name}: not known yet\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stated", "killed", "whole", "wrong"),
    [
        ([], "a", False, False),
        (["a"], "a", False, False),
        (["a"], "b", False, True),
        (["a", "b"], "b", False, False),
        (["a", "b"], "c", False, True),
        (["a"], "a", True, False),
        (["a"], "ab", True, True),
        (["a", "b"], "abc", True, False),
    ],
)
def test_a_row_contradicts_what_is_stated(stated: list[str], killed: str, whole: bool, wrong: bool) -> None:
    """In a whole matrix a claim is alone where no other notices."""
    row = matrix.Row("m", [matrix.Cell(claim, "m", "lora", "killed") for claim in killed])
    assert row.contradicts(stated, whole=whole) == wrong


def test_what_is_stated_is_of_what_there_is() -> None:
    told = order.stated()
    assert told.keys() <= load_catalogue().keys()
    assert {claim for found in told.values() for claim in found} <= load_claims().keys()
    assert {len(found) for found in told.values()} <= {1, 2}


def test_what_was_known_before_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    function, path = plain(ll.LoRA.specs), tmp_path / "order.json"
    monkeypatch.setattr(order, "FILE", path)
    for claims in (["old", "both"], ["new", "both", "both"]):
        forget()
        order.write((function, claim) for claim in claims)
    forget()
    assert order.noticed([function]) == ["both", "new", "old"]
