"""One helper a claim: says what came out, what was wanted, the tolerance and by how much it was missed."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from properties.judging.tolerance import Bounded


class Violation(AssertionError):  # noqa: N818  # the term of the field: a property is violated
    """A property does not hold. The message needs no knowledge of the test.

    case, examples: the shrunk recipe and the examples tried, where a drawn case was at fault.
    """

    def __init__(self, message: str, *, case: Any = None, examples: int | None = None) -> None:
        super().__init__(message)
        self.case = case
        self.examples = examples


@dataclass(eq=False)
class Meter:
    """Counts examples, and keeps by dtype the worst error as a share of its tolerance: {"float32": 0.2}."""

    examples: int = 0
    worst: dict[str, float] = field(default_factory=dict)

    def note(self, dtype: str, share: float) -> None:
        """An error of this share of its tolerance was seen."""
        self.worst[dtype] = max(self.worst.get(dtype, 0.0), share)


_meters: list[Meter] = []


@contextmanager
def measuring(meter: Meter) -> Iterator[Meter]:
    """Every assertion inside reports its share of tolerance to `meter`."""
    _meters.append(meter)
    try:
        yield meter
    finally:
        _meters.remove(meter)


def assert_close(got: Tensor, wanted: Bounded, *, claim: str) -> None:
    """Every entry of `got` is within its own bound of the wanted value."""
    assert_within(got, wanted.value.reshape(got.shape), wanted.error.reshape(got.shape), claim=claim)


def assert_within(
    got: Tensor, wanted: Tensor, error: Tensor | float, *, claim: str, dtype: torch.dtype | None = None
) -> None:
    """|got − wanted| ≤ error, entry by entry; a NaN or Inf on either side is a violation, but where the bound
    is infinite.

    dtype: what `got` was computed in, where it has been cast since.
    """
    if got.shape != wanted.shape:
        raise Violation(f"{claim}: got shape {tuple(got.shape)}, wanted {tuple(wanted.shape)}")
    if got.numel() == 0:
        return
    computed_in = str(dtype or got.dtype).removeprefix("torch.")
    got, wanted = got.detach().double(), wanted.detach().double()
    off = (got - wanted).abs()
    error = torch.as_tensor(error, dtype=torch.float64, device=off.device).expand(off.shape)
    share = torch.where(off == 0, 0.0, off / error).nan_to_num(nan=torch.inf, posinf=torch.inf)
    share = torch.where(torch.isfinite(got) & torch.isfinite(wanted), share, torch.inf).where(
        error != torch.inf, 0.0
    )
    worst = float(share.max())
    for meter in _meters:
        meter.note(computed_in, worst)
    if worst > 1:
        at = tuple(int(i) for i in torch.unravel_index(share.argmax(), share.shape))
        raise Violation(
            f"{claim}\ngot {got[at]:+.6g}  wanted {wanted[at]:+.6g}  off by {off[at]:.4g} = {worst:.3g} ×"
            f" tolerance ({error[at]:.3g})\nworst at {list(at)} of {list(got.shape)},"
            f" {int((share > 1).sum())} of {share.numel()} entries are off"
        )


STORED = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor: Tensor) -> Tensor:
    """What is stored, as integers of the same shape."""
    return tensor.detach().view(STORED[tensor.element_size()])


def assert_identical(got: Tensor, wanted: Tensor, *, claim: str) -> None:
    """Bit for bit the same, dtype and shape included: −0 is not 0."""
    _assert_alike(got, wanted, claim)
    _assert_same(bits(got) == bits(wanted), got, wanted, claim)


def assert_equal(got: Tensor, wanted: Tensor, *, claim: str) -> None:
    """The same numbers, dtype and shape included: −0 is 0, which adding an exact zero makes of it, and NaN
    equals NaN.
    """
    _assert_alike(got, wanted, claim)
    _assert_same((got == wanted) | (got.isnan() & wanted.isnan()), got, wanted, claim)


def _assert_alike(got: Tensor, wanted: Tensor, claim: str) -> None:
    if got.dtype != wanted.dtype or got.shape != wanted.shape:
        raise Violation(
            f"{claim}: got {got.dtype} {tuple(got.shape)}, wanted {wanted.dtype} {tuple(wanted.shape)}"
        )


def _assert_same(same: Tensor, got: Tensor, wanted: Tensor, claim: str) -> None:
    if not bool(same.all()):
        at = tuple(int(i) for i in (~same).nonzero()[0])
        raise Violation(
            f"{claim}\ngot {got[at].item():+.9g}  wanted exactly {wanted[at].item():+.9g} at {list(at)} of"
            f" {list(got.shape)}, {int((~same).sum())} of {same.numel()} entries differ"
        )


def assert_all_identical(got: dict[str, Tensor], wanted: dict[str, Tensor], *, claim: str) -> None:
    """The same names, and every tensor bit for bit the same."""
    if set(got) != set(wanted):
        raise Violation(
            f"{claim}: missing {sorted(set(wanted) - set(got))}, unexpected {sorted(set(got) - set(wanted))}"
        )
    for name, tensor in wanted.items():
        assert_identical(got[name], tensor, claim=f"{claim}: {name}")


def assert_zero(got: Tensor, *, claim: str) -> None:
    """Exactly zero everywhere, of either sign."""
    assert_equal(got, torch.zeros_like(got), claim=claim)


def assert_nonzero(got: Tensor, *, claim: str) -> None:
    """Finite everywhere, and not zero everywhere."""
    if not bool(torch.isfinite(got).all()):
        raise Violation(
            f"{claim}: {int((~torch.isfinite(got)).sum())} of {got.numel()} entries are not finite"
        )
    if not bool(got.any()):
        raise Violation(f"{claim}: got exactly zero in all {got.numel()} entries")


def assert_holds(holds: bool, *, claim: str) -> None:
    """A plain fact."""
    if not holds:
        raise Violation(claim)


@contextmanager
def assert_refuses(error: type[Exception], match: str, *, claim: str) -> Iterator[None]:
    """The body raises this error (not merely some error) with a message in which `match` is found."""
    try:
        yield
    except error as caught:
        if not re.search(match, str(caught)):
            raise Violation(f"{claim}: the message is {str(caught)!r}, wanted {match!r} in it") from caught
    except Exception as caught:
        raise Violation(
            f"{claim}: raised {type(caught).__name__}: {caught}, wanted {error.__name__}"
        ) from caught
    else:
        raise Violation(f"{claim}: not refused, wanted {error.__name__}")


@contextmanager
def assert_runs(what: str) -> Iterator[None]:
    """An error inside is the finding: "`what` fails with …"."""
    try:
        yield
    except Violation:
        raise
    except Exception as error:
        raise Violation(f"{what} fails with {type(error).__name__}: {error}") from error
