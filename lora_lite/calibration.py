"""Streams batches through the model once and hands each target's inputs to its calibrator."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import setitem
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lora_lite.atomic import Step, at_once, attribute_as_it_is
from lora_lite.errors import CalibrationError, LoraLiteError
from lora_lite.fast_paths import switch_off
from lora_lite.progress import told
from lora_lite.spec import Calibrator


class InputMoments(Calibrator):
    """Mean and centred second moments of a layer's inputs, in float64, whatever the batches.

    Memory: one d_in × d_in matrix a layer. Batches are merged by the pairwise update of Chan, Golub and
    LeVeque (1979), which does not cancel where the mean is large. at_most: the components that the layer can
    make use of; no more directions are kept.
    """

    def __init__(self, at_most: int) -> None:
        self.at_most = at_most
        self.tokens = 0
        self.mean: Tensor | None = None
        self.scatter: Tensor | None = None
        self._principal: tuple[Tensor, Tensor] | None = None

    def update(self, x: Tensor) -> None:
        x = x.double()
        mean = x.mean(0)
        scatter = (x - mean).mT @ (x - mean)
        total = self.tokens + len(x)
        if self.mean is None or self.scatter is None:
            self.mean, self.scatter = mean, scatter
        else:
            shift = mean - self.mean
            self.scatter += scatter + torch.outer(shift, shift) * (self.tokens * len(x) / total)
            self.mean += shift * (len(x) / total)
        self.tokens = total
        # What principal() remembers is of the batches before.
        self._principal = None

    def principal(self) -> tuple[Tensor, Tensor]:
        """Variance times tokens along each principal direction (d_in,), largest first, and the first at_most
        directions as rows.
        """
        assert self.scatter is not None, "calibrate() refuses a layer that saw no input"
        if self._principal is None:
            # eigh sorts upwards, and rounding may make an eigenvalue of zero negative.
            variance, vectors = torch.linalg.eigh(self.scatter)
            directions = vectors[:, -self.at_most :].flip(1).mT.contiguous()
            self._principal = variance.flip(0).clamp(min=0), directions
        return self._principal

    def rank(self) -> int:
        """The numerical rank of the centred inputs, as seen through their second moments in float64."""
        variance, _ = self.principal()
        # numpy.linalg.matrix_rank's floor, of eigenvalues: what is smaller cannot be told from rounding.
        floor = variance[0] * len(variance) * torch.finfo(variance.dtype).eps
        return int((variance > floor).sum())


def first_argument(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """A linear layer's input (..., d_in), by position or by keyword: by the name of its forward's first
    parameter.
    """
    if args:
        return args[0]  # type: ignore[no-any-return]  # a tensor, or the layer itself will complain
    name = next(iter(kwargs if len(kwargs) == 1 else inspect.signature(layer.forward).parameters))
    return kwargs[name]  # type: ignore[no-any-return]


def calibrate(
    model: nn.Module,
    targets: Mapping[str, nn.Module],
    calibrators: Mapping[str, Calibrator],
    data: Iterable[Any],
) -> None:
    """Run every batch of `data` through `model` by streamed(), into each target's calibrator.

    Raises CalibrationError where there is no batch, one that is in no list or that the model does not take,
    or a target saw no token or a number that is not finite.
    """
    tokens = dict.fromkeys(targets, 0)
    listen: list[Step] = []
    back: list[Step] = []
    for name, layer in targets.items():
        hooks, with_kwargs = layer._forward_pre_hooks, layer._forward_pre_hooks_with_kwargs
        own = RemovableHandle(hooks).id
        listen += [
            (setitem, hooks, own, _listener(name, calibrators[name], tokens)),
            (setitem, with_kwargs, own, True),
        ]
        back += [(hooks.pop, own, None), (with_kwargs.pop, own, None)]
    streamed(model, data, listen, back, what="the calibration data", doing="calibration")
    if silent := [name for name, seen in tokens.items() if seen == 0]:
        raise CalibrationError(
            f"{', '.join(silent[:5])}: no calibration token reached {len(silent)} of {len(tokens)} targets. "
            "Leave them out with exclude_names, or give data that uses them."
        )


def streamed(
    model: nn.Module,
    data: Iterable[Any],
    listen: Sequence[Step],
    unlisten: Sequence[Step],
    *,
    what: str,
    doing: str,
) -> None:
    """Run every batch of `data` through `model`, in eval mode and without gradients, once `listen` is done.

    A batch is a tensor (the model's one argument), a tuple or list (its positional arguments) or a mapping
    (its keyword arguments). Whatever happens, `unlisten` is done, and the model's training flags are as
    before. what: the data, as messages call it; doing: what for, as progress is told.

    Raises CalibrationError where there is no batch, or one that is in no list or that the model does not
    take.
    """
    # Iterated as they are, these would give rows or names, and no batches.
    if isinstance(data, Tensor | Mapping):
        raise CalibrationError(f"{what}: found one {type(data).__name__}, wanted batches. Put it in a list.")
    # On their way around a layer its inputs would be missed.
    off, on = switch_off(model)
    back: list[Step] = [
        *_modes(model),
        (torch.set_grad_enabled, torch.is_grad_enabled()),
        *on,
        *unlisten,
    ]
    try:
        at_once([*off, *listen])
        model.eval()
        _run_all(model, data, what, doing)
        at_once(back)
    except BaseException:
        # Not `finally`, nor the end of a `with`: an interrupt at its first line would leave all as it is.
        # Here that line lies inside, and to do it twice does no harm.
        at_once(back)
        raise


def _listener(name: str, calibrator: Calibrator, tokens: dict[str, int]) -> Callable[..., None]:
    """A hook that hands the layer's tokens to its calibrator, and counts them."""

    def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = first_argument(layer, args, kwargs).detach()
        x = x.reshape(-1, x.shape[-1])
        if not torch.isfinite(x).all():
            raise CalibrationError(
                f"{name}: the calibration data gives NaN or Inf here. Leave out or mend such batches."
            )
        # An expert that no token of the batch chose gets none, and their mean would be NaN.
        if len(x):
            calibrator.update(x)
            tokens[name] += len(x)

    return hook


@torch.no_grad()
def _run_all(model: nn.Module, data: Iterable[Any], what: str, doing: str) -> None:
    """Raises CalibrationError where there is no batch, or one that the model does not take."""
    batches = 0
    for batch in told(data, f"{doing}: batches"):
        try:
            _run(model, batch)
        except LoraLiteError:
            # One of ours, from a listener: it says what is wrong already.
            raise
        except Exception as error:
            raise _unfit(batches, batch, error, what) from error
        batches += 1
    if batches == 0:
        raise CalibrationError(
            f"{what} holds no batch. Give at least one (a generator can be used only once)."
        )


def _unfit(number: int, batch: Any, error: Exception, what: str) -> CalibrationError:
    return CalibrationError(
        f"batch {number} of {what}, a {type(batch).__name__}: the model raised"
        f" {type(error).__name__}: {error}. Wanted a tensor, a tuple of positional arguments or a mapping of"
        " keyword arguments, as the model takes them."
    )


def _run(model: nn.Module, batch: Any) -> None:
    if isinstance(batch, Mapping):
        model(**batch)
    elif isinstance(batch, tuple | list):
        model(*batch)
    else:
        model(batch)


def _modes(model: nn.Module) -> list[Step]:
    """What gives each module its own training flag back (they need not be all alike)."""
    # Not by train(), which would set the children too.
    return [attribute_as_it_is(module, "training") for module in model.modules()]
