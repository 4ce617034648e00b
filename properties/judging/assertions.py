"""The one vocabulary of assertions. A failure says what was looked at and what it is not: what came out, what
was wanted, the bound, and by how much it was missed.

what: the tensor or the argument that is looked at, in words that need no knowledge of the suite. like: what
it should be, to be read after "is not".
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from hypothesis.errors import UnsatisfiedAssumption
from torch import Tensor

from properties.judging.outcome import NotJudgedError, note
from properties.judging.tolerance import Bounded

WANTED = "what it should be"


class Violation(AssertionError):  # noqa: N818  # the term of the field: a property is violated
    """A claim does not hold. The message needs no knowledge of the test.

    tensor          what was off, in words; None where no tensor was compared
    case, examples  the shrunk recipe and the examples tried, where a drawn case was at fault
    of              claim and method that the case is one of, where they are not those that found it
    """

    def __init__(
        self,
        message: str,
        *,
        tensor: str | None = None,
        case: Any = None,
        examples: int | None = None,
        of: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.tensor = tensor
        self.case = case
        self.examples = examples
        self.of = of


def assert_close(got: Tensor, wanted: Bounded, *, what: str, like: str = WANTED) -> None:
    """Every entry of `got` is within its own bound of the wanted value."""
    assert_within(got, wanted.value.reshape(got.shape), wanted.error.reshape(got.shape), what=what, like=like)


def assert_within(
    got: Tensor,
    wanted: Tensor,
    error: Tensor | float,
    *,
    what: str,
    like: str = WANTED,
    dtype: torch.dtype | None = None,
) -> None:
    """|got − wanted| ≤ error, entry by entry; a NaN or Inf on either side is a violation, but where the bound
    is infinite.

    dtype: what `got` was computed in, where it has been cast since.
    """
    if got.shape != wanted.shape:
        found = f"shape {tuple(got.shape)}, wanted {tuple(wanted.shape)}"
        raise Violation(f"{what} is not {like}: got {found}", tensor=what)
    if got.numel() == 0:
        return
    computed_in = str(dtype or got.dtype).removeprefix("torch.")
    got, wanted = got.detach().double(), wanted.detach().double()
    off = (got - wanted).abs()
    error = torch.as_tensor(error, dtype=torch.float64, device=off.device).expand(off.shape)
    share = torch.where(off == 0, 0.0, off / error).nan_to_num(nan=torch.inf, posinf=torch.inf)
    share = torch.where(torch.isfinite(got) & torch.isfinite(wanted), share, torch.inf)
    share = share.where(error != torch.inf, 0.0)
    worst = float(share.max())
    note(computed_in, worst)
    if worst > 1:
        at = tuple(int(i) for i in torch.unravel_index(share.argmax(), share.shape))
        raise Violation(
            f"{what} is not {like}: got {got[at]:+.6g}, wanted {wanted[at]:+.6g}, off by {off[at]:.4g}"
            f" = {worst:.3g} × the bound ({error[at]:.3g})\n"
            f"worst at {list(at)} of {list(got.shape)}, {int((share > 1).sum())} of {share.numel()} entries"
            " are off",
            tensor=what,
        )


STORED = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor: Tensor) -> Tensor:
    """What is stored, as integers of the same shape."""
    return tensor.detach().view(STORED[tensor.element_size()])


def assert_identical(got: Tensor, wanted: Tensor, *, what: str, like: str = WANTED) -> None:
    """Bit for bit the same, dtype and shape included: −0 is not 0."""
    _assert_alike(got, wanted, what, like)
    _assert_same(bits(got) == bits(wanted), got, wanted, f"{what} is not bit for bit {like}", what)


def assert_equal(got: Tensor, wanted: Tensor, *, what: str, like: str = WANTED) -> None:
    """The same numbers, dtype and shape included: −0 is 0, which adding an exact zero makes of it, and NaN
    equals NaN.
    """
    _assert_alike(got, wanted, what, like)
    same = (got == wanted) | (got.isnan() & wanted.isnan())
    _assert_same(same, got, wanted, f"{what} is not exactly {like}", what)


def _assert_alike(got: Tensor, wanted: Tensor, what: str, like: str) -> None:
    if got.dtype != wanted.dtype or got.shape != wanted.shape:
        found = f"got {got.dtype} {tuple(got.shape)}, wanted {wanted.dtype} {tuple(wanted.shape)}"
        raise Violation(f"{what} is not {like}: {found}", tensor=what)


def _assert_same(same: Tensor, got: Tensor, wanted: Tensor, message: str, what: str) -> None:
    if not bool(same.all()):
        at = tuple(int(i) for i in (~same).nonzero()[0])
        raise Violation(
            f"{message}: got {got[at].item():+.9g}, wanted {wanted[at].item():+.9g} at {list(at)} of"
            f" {list(got.shape)}, {int((~same).sum())} of {same.numel()} entries differ",
            tensor=what,
        )


def assert_all_identical(
    got: dict[str, Tensor], wanted: dict[str, Tensor], *, what: str, like: str = WANTED
) -> None:
    """The same names, and every tensor bit for bit the same."""
    if missing := sorted(set(wanted) - set(got)):
        raise Violation(f"{what} is not {like}: {missing} are missing", tensor=f"{what}: {missing[0]}")
    if unexpected := sorted(set(got) - set(wanted)):
        raise Violation(f"{what} is not {like}: it has {unexpected} too", tensor=f"{what}: {unexpected[0]}")
    for name, tensor in wanted.items():
        assert_identical(got[name], tensor, what=f"{what}: {name}", like=like)


def assert_zero(got: Tensor, *, what: str) -> None:
    """Exactly zero everywhere, of either sign."""
    assert_equal(got, torch.zeros_like(got), what=what, like="zero")


def assert_nonzero(got: Tensor, *, what: str) -> None:
    """Finite everywhere, and not zero everywhere."""
    assert_finite(got, what=what)
    if not bool(got.any()):
        raise Violation(f"{what} is exactly zero in all {got.numel()} entries", tensor=what)


def assert_finite(got: Tensor, *, what: str) -> None:
    """No entry is NaN or Inf."""
    if not bool(torch.isfinite(got).all()):
        count = int((~torch.isfinite(got)).sum())
        raise Violation(f"{what} is not finite in {count} of {got.numel()} entries", tensor=what)


def assert_holds(holds: bool, *, claim: str) -> None:
    """A plain fact. claim: what was found and what was wanted, as the failure is to say it."""
    if not holds:
        raise Violation(claim)


def claim_is_about(case: bool) -> None:
    """Where it is not, another case is drawn, and in replay nothing is said."""
    if not case:
        # As hypothesis.assume, which may not be called in replay.
        raise UnsatisfiedAssumption


@contextmanager
def assert_refuses(error: type[BaseException], match: str, *, claim: str) -> Iterator[None]:
    """The body raises this error (not merely some error) with a message in which `match` is found.

    claim: what is tried, and should be refused.
    """
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
    except (Violation, NotJudgedError):
        raise
    except Exception as error:
        raise Violation(f"{what} fails with {type(error).__name__}: {error}") from error
