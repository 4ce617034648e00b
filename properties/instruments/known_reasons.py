"""The reasons of known.txt why nothing can notice a generated mutant, each with the check that it holds."""

import ast
import inspect
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lora_lite as ll
from lora_lite import calibration, sketches
from lora_lite.fingerprint import fingerprint
from lora_lite.linear import read_weight
from lora_lite.peft_format import exporting
from lora_lite.variants import references
from lora_lite.variants.gate import gated
from properties.instruments.strangers import registered
from properties.judging.tolerance import claim_bound
from properties.mutation import Mutant, generic
from properties.mutation.mutant import named, plain
from properties.mutation.trees import Place, tree_of
from strategies import Turned

# Of the mutants of one reason; what it patches is undone afterwards.
Check = Callable[[Sequence[Mutant], pytest.MonkeyPatch], None]
CHECKS: dict[str, Check] = {}


def reason(told: str, *, of: str = "") -> Callable[[Check], Check]:
    """Make a function the check of this reason. of: what changes in its mutants, and where, in case the check
    does not look at them.
    """

    def register(check: Check) -> Check:
        def checked(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
            assert [mutant.name for mutant in mutants if of not in mutant.name] == []
            check(mutants, patch)

        CHECKS[told] = checked
        return check

    return register


def place_of(mutant: Mutant) -> Place:
    """Where an operator changed a function."""
    (step,) = mutant.changes
    assert isinstance(step, generic.Edit)
    return step.place(tree_of(step.target))


def adapted(kind: Any, layer: nn.Module | None = None, **settings: Any) -> Any:
    """A model of one layer, under a variant as it starts."""
    torch.manual_seed(0)
    model = nn.Sequential(layer or nn.Linear(4, 4))
    width = read_weight(model[0]).shape[1]
    rank = {} if "r" in kind.config_class.unused else {"r": 4}
    ll.attach(model, kind.config_class(**rank, **settings), [torch.randn(9, width)])
    return model


@reason("a set has no order")
def _a_set(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    for mutant in mutants:
        assert isinstance(place_of(mutant).there[0], ast.SetComp)
        # All of it in reverse; the other operator takes the first alone.
        assert "[::-1]" in ast.unparse(ast.fix_missing_locations(mutant.changes[0].new))  # type: ignore[attr-defined]


@reason("its length alone is asked")
def _length(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    for owner in (place_of(mutant).owner for mutant in mutants):
        assert isinstance(owner, ast.Call)
        assert ast.unparse(owner.func) == "len"


@reason("that it is finite has no gradient")
def _finite(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    assert not torch.ones(1, requires_grad=True).isfinite().requires_grad
    for owner in (place_of(mutant).owner for mutant in mutants):
        assert isinstance(owner, ast.Attribute)
        assert owner.attr == "isfinite"


@reason("it runs without gradients")
def _no_gradients(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    for kind in {named(mutant.name.partition(".initialise")[0]) for mutant in mutants}:
        seen, initialise = list[bool](), kind.initialise

        def noting(*args: Any, seen: list[bool] = seen, initialise: Any = initialise) -> None:
            seen.append(torch.is_grad_enabled())
            initialise(*args)

        patch.setattr(kind, "initialise", noting)
        with torch.enable_grad():
            adapted(kind)
        assert seen == [False]


@reason("a frozen buffer has no gradient")
def _buffers(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    own = adapted(ll.PiSSA).requires_grad_(True)[0].lora_lite
    for mutant in mutants:
        buffer = dict(own.named_buffers())[place_of(mutant).there[0].attr]  # type: ignore[attr-defined]
        assert not buffer.requires_grad


@reason("what looks at a weight has detached it before", of="sketches:_pass: detached: W ")
def _looked_at(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    """`sketches._pass` is called by nobody else."""
    seen: list[bool] = []
    passed = sketches._pass

    def noting(W: Tensor, axis: Any) -> Any:
        seen.append(W.requires_grad)
        return passed(W, axis)

    patch.setattr(sketches, "_pass", noting)
    for layer in (nn.Linear(4, 2), nn.Linear(2, 4), Turned(torch.ones(4, 2), None)):
        sketches.look(layer, "rows")
    assert len(seen) > 3
    assert not any(seen)


@reason("it was detached before", of="calibration:_listener: detached: x ")
def _listened_to(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    calibrator: Any = type("Calibrator", (), {"update": seen.append})
    x = torch.randn(2, 3, 4, requires_grad=True)
    calibration._listener("it", calibrator, {"it": 0})(nn.Linear(4, 4), (x,), {})
    assert not seen[0].requires_grad


@reason("a digest reads memory, and makes no graph")
def _digest(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    turned = Turned(torch.ones(3, 4).mT, None)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2, dtype=torch.bfloat16), turned)
    assert all(parameter.requires_grad for parameter in model.parameters())
    wanted = fingerprint(model)
    for mutant in mutants:
        with mutant.injected():
            assert fingerprint(model) == wanted


@reason("export detaches all that is written")
def _exported(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    copied: Any = vars(exporting)["copied"]

    def noting(tensor: Tensor) -> Any:
        seen.append(tensor.requires_grad)
        return copied(tensor)

    patch.setattr(exporting, "copied", noting)
    for mutant, kind in product(mutants, (ll.IA3, ll.IA3FF)):
        with mutant.injected(), TemporaryDirectory() as folder:
            ll.export_peft(adapted(kind), folder)
    # Of each what is kept here, and what is written.
    assert seen == [False] * 4


@reason("what is read is detached afterwards")
def _quantised(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    """Even where what dequantises makes a graph."""
    functional = SimpleNamespace(dequantize_4bit=lambda weight, state: weight * state)
    patch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(functional=functional))
    kind = type("Linear4bit", (nn.Linear,), {"__module__": "bitsandbytes.nn"})
    layer: Any = kind(4, 4)
    # A plain weight would be read as it stands.
    layer.weight = type("Params4bit", (nn.Parameter,), {})(layer.weight.data)
    layer.weight.quant_state = 2.0
    for mutant in mutants:
        with mutant.injected():
            assert layer.weight.requires_grad
            assert torch.equal(weight := read_weight(layer), 2 * layer.weight.data)
            assert not weight.requires_grad


@reason(
    "v + v ∘ offset and v ∘ (1 + offset) are equal to rounding where offset is wide; the latter saves a pass"
)
def _forms(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    dtypes = torch.float16, torch.bfloat16, torch.float32, torch.float64
    for mutant, of_v, of_offset in product(mutants, dtypes, dtypes):
        v, offset = torch.randn(9, 5).to(of_v), torch.randn(5).to(of_offset)
        wanted = gated(v, offset)
        with mutant.injected():
            off = (gated(v, offset) - wanted).abs()
        assert (off <= claim_bound(v.abs() * (1 + offset.abs()), wanted.dtype)).all()


@reason("at Q = 0 the solve gives I bit for bit", of="BOFT.identity: ")
def _identity(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    with registered("boft") as kind:
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
            layer = nn.Linear(24, 24, dtype=dtype)
            x = torch.randn(3, 24, dtype=dtype)
            wanted = layer(x)
            for block, factors in ((2, 2), (3, 1)):
                model = adapted(kind, layer, block=block, factors=factors)
                assert torch.equal(model(x), wanted)
                ll.detach(model)


@reason("W and B have as many rows, in as many blocks")
def _rows(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    for layer in (nn.Linear(6, 4), nn.Linear(4, 6), Turned(torch.randn(6, 4), None)):
        own = adapted(ll.DoRA, layer)[0].lora_lite
        assert len(read_weight(layer)) == len(own.B)
    for owner in (place_of(mutant).owner for mutant in mutants):
        assert isinstance(owner, ast.keyword)
    # Both in steps of the same length.
    assert {ast.unparse(split.args[1]) for split in splits_of(ll.DoRA.row_norms)} == {"step"}


def splits_of(function: Any) -> list[ast.Call]:
    calls = (node for node in ast.walk(tree_of(plain(function))) if isinstance(node, ast.Call))
    return [call for call in calls if ast.unparse(call.func) == "torch.split"]


@reason("it runs at import, before a mutant is there: what it gave is looked at as it stands")
def _at_import(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    """No function reads its name, and it has no other module's."""
    for path in Path(inspect.getfile(ll)).parent.rglob("*.py"):
        whole = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(whole) if isinstance(node, ast.FunctionDef | ast.Lambda)]
        inside = functions if path == Path(inspect.getfile(references)) else [whole]
        names = {getattr(n, "id", getattr(n, "attr", "")) for part in inside for n in ast.walk(part)}
        assert {mutant.targets[0].__name__ for mutant in mutants}.isdisjoint(names)
