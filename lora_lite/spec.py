"""What a variant declares of its tensors (ParamSpec), the Variant base class, and the variants' register."""

import math
from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from lora_lite.config import AdapterConfig
from lora_lite.deviation import Deviation
from lora_lite.errors import ConfigError
from lora_lite.linear import LinearShape, read_weight
from lora_lite.norms import Axis, norms_of
from lora_lite.reference import Reference

Gradient = Literal["zero", "nonzero"]
GRADIENTS = (None, *get_args(Gradient))
Init = Callable[[Tensor], Any]
# torch.nn.init's of a leaky ReLU with a = √5.
KAIMING_GAIN = math.sqrt(2.0 / (1 + math.sqrt(5) ** 2))


@dataclass(frozen=True)
class ParamSpec:
    """One tensor of an adapter, in the adapter's dtype.

    shape           its shape
    init            fills it in place (zeros, kaiming_uniform, any such function); None where
                    Variant.initialise computes it
    first_gradient  what a trainable tensor's gradient is at the first step, exactly "zero" or truly "nonzero"
                    (where x, the upstream gradient and W are not zero); None for a frozen buffer

    Raises ConfigError where shape is no tuple or first_gradient none of these.
    """

    shape: tuple[int, ...]
    init: Init | None = None
    first_gradient: Gradient | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple):
            raise ConfigError(f"ParamSpec.shape: found {self.shape!r}, wanted a tuple.")
        if self.first_gradient not in GRADIENTS:
            raise ConfigError(
                f"ParamSpec.first_gradient: found {self.first_gradient!r}, wanted 'zero', 'nonzero' or None."
            )

    @property
    def trainable(self) -> bool:
        """Whether it is a parameter, and not a frozen buffer."""
        return self.first_gradient is not None


def zeros(tensor: Tensor) -> None:
    """Fill with zeros."""
    tensor.detach().zero_()


def unfilled(tensor: Tensor) -> None:
    """Fill with NaN: what is still so when init is done was forgotten."""
    tensor.detach().fill_(math.nan)


def kaiming_uniform(tensor: Tensor) -> None:
    """Uniform in ±1/√fan_in: kaiming with a = √5, as nn.Linear's own weight, number for number."""
    bound = math.sqrt(3.0) * (KAIMING_GAIN / math.sqrt(math.prod(tensor.shape[1:])))
    tensor.detach().uniform_(-bound, bound)


class Calibrator(ABC):  # noqa: B024  # update is the interface; a variant's own init reads what it gathered
    """Gathers statistics of one layer's inputs, batch by batch."""

    def update(self, x: Tensor) -> None:
        """x (tokens, d_in): one batch of the layer's inputs, on the model's device and in its dtype."""
        raise NotImplementedError


class Variant(nn.Module):
    """The adapter of one linear layer: its tensors, and how they change the layer's input or output.

    A subclass sets the attributes below, declares all its tensors in `specs`, overrides `adapt_input` or
    `adapt_output` (one of them), and is made known by `register`. One instance belongs to one layer;
    everything per layer lives in its parameters and buffers, so that deepcopy, `.to()` and state_dict treat
    an adapted model as any other. A subclass does not override __init__, which load calls too.

    name               what files and messages call it; the `variant` of its config
    config_class       its AdapterConfig
    reference          where its formula comes from; None where nowhere
    reads_weight       whether it reads the base weight: attach then refuses one that cannot be read, and NaN
                       and Inf in a quantised one too
    rereads_weight     whether it reads it at every call too, and not at attach alone: an engine that brings
                       the weight for the layer's own call is then refused
    norms_along        "rows" or "columns" where it starts from such norms of the weight: attach has them of
                       its one look at it, for `take_norms`; reads_weight is to be set too
    needs_calibration  whether attach refuses it without calibration_data
    replaces           whether it takes nothing of y: attach then wants a layer that computes x Wᵀ + b, whose
                       own numbers do not count as base
    deviations         claims of the property suite that do not hold of it, and why
    laws               what its formula keeps, by the names that properties/judging/laws.py has: the suite's
                       evidence where there is no oracle

    An instance has `shape` (LinearShape), `config` (this layer's own), `scale` (alpha / r, or 1), `reached`,
    which the runtime sets at every forward, and `disabled`.

    Its class docstring is what help() and the suite's audit show: a title up to the first blank line, the
    formula indented, then "Tensors:", "Reference:", "Identity at init:", "First step:" and "Deviations:".
    help(ll.LoRA) is an example.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[AdapterConfig]]
    reference: ClassVar[Reference | None] = None
    reads_weight: ClassVar[bool] = False
    rereads_weight: ClassVar[bool] = False
    norms_along: ClassVar[Axis | None] = None
    needs_calibration: ClassVar[bool] = False
    replaces: ClassVar[bool] = False
    deviations: ClassVar[tuple[Deviation, ...]] = ()
    laws: ClassVar[Mapping[str, Any]] = {}

    shape: LinearShape
    config: Any
    scale: float

    def __init__(
        self,
        shape: LinearShape,
        config: AdapterConfig,
        device: torch.device | None = None,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        """tensors: all of `specs` by name, as they were saved. None makes them on `device`, for `reset` to
        fill.
        """
        super().__init__()
        # A plain dict: torch.compile follows it from the layer and from the model's listener alike.
        self.__dict__.update(mark={"reached": False}, renewed=False, switches=())
        # Past nn.Module.__setattr__, which looks for tensors in them.
        self.__dict__.update(shape=shape, config=config, scale=config.scale)
        for name, spec in self.specs(shape, config).items():
            # Left empty: reset fills it, or marks with NaN what nothing fills.
            tensor = (
                torch.empty(spec.shape, dtype=config.dtype, device=device)
                if tensors is None
                else tensors[name]
            )
            if spec.trainable:
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        # A cast of the model rounds the weight as it rounds the adapter: no other base for that.
        made = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's own
        if (sketch := self.__dict__.get("sketch")) is not None:
            dtypes = (tensor.dtype for tensor in self.parameters())
            sketch.eps = max(sketch.eps, *(torch.finfo(dtype).eps for dtype in dtypes))
        return made

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *given: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *given)
        # An adapter that comes in a state dict is of the base that comes with it.
        self.__dict__["renewed"] = any(prefix + name in state_dict for name in self.state_dict())

    @property
    def reached(self) -> bool:
        """Whether the latest forward of the model has called the layer."""
        return self.__dict__["mark"]["reached"]  # type: ignore[no-any-return]  # a bool

    @property
    def disabled(self) -> bool:
        """Whether it has no effect for now: inside of adapter.disabled() or ll.disabled(model)."""
        return any(switch.open for switch in self.__dict__["switches"])

    @classmethod
    def specs(cls, shape: LinearShape, config: Any) -> dict[str, ParamSpec]:
        """Every tensor of the adapter on a layer of this shape, by name. A subclass must override it."""
        raise NotImplementedError

    @classmethod
    def check(cls, shape: LinearShape, config: Any) -> None:
        """Raise ConfigError where this config cannot work on a layer of this shape."""

    @classmethod
    def fit(cls, shape: LinearShape, config: Any) -> Any:
        """The config on a layer of this shape: where r is more than the layer can have, the largest rank that
        it can, and the same s = alpha / r.
        """
        return config

    @classmethod
    def identity(cls, config: Any) -> Literal["exact", "rounding", "none"]:
        """Whether a freshly attached adapter changes nothing bit for bit, or but for rounding; "none" where
        its paper starts from something else than the base.
        """
        return "exact"

    @classmethod
    def continuous(cls, config: Any) -> bool:
        """Whether the output changes by O(ε) where an optimiser step of size ε leaves init."""
        return True

    @classmethod
    def calibrator(cls, layer: nn.Module, config: Any) -> Calibrator | None:
        """What gathers this layer's input statistics, for a variant whose init uses them; None for any other.
        Called only where attach has calibration_data.
        """
        return None

    @classmethod
    def allocate(cls, config: Any, statistics: Mapping[str, Calibrator | None]) -> dict[str, Any]:
        """The config of each layer, given all layers' statistics (each None without data); a layer left out
        gets no adapter.
        """
        return dict.fromkeys(statistics, config)

    # A decorator: an interrupt at the last line of a `with` would leave torch without gradients.
    @torch.no_grad()
    def reset(self, layer: nn.Module, statistics: Any = None, norms: Tensor | None = None) -> None:
        """Give every tensor its value at attach; NaN where nothing does, which attach refuses. norms: for
        take_norms, where they are known.
        """
        for name, spec in self.specs(self.shape, self.config).items():
            (spec.init or unfilled)(getattr(self, name))
        if self.norms_along is not None:
            self.take_norms(norms_of(read_weight(layer), self.norms_along) if norms is None else norms)
        self.initialise(layer, statistics)

    def initialise(self, layer: nn.Module, statistics: Any) -> None:
        """Fill the tensors whose init depends on the base layer or on calibration.

        statistics: the layer's calibrator after all batches, None without data. Called without gradients.
        """

    def take_norms(self, norms: Tensor) -> None:
        """Fill the tensors whose init depends on norms of the base weight alone, after initialise.

        norms: (d_out,) or (d_in,) in float64, along `norms_along`.
        """
        raise NotImplementedError

    def adapt_input(self, x: Tensor) -> Tensor:
        """x (..., d_in) -> (..., d_in), what the base layer gets in its place.

        x comes in the model's dtype, which need not be the adapter's: cast what is multiplied. The runtime
        casts back to x's.
        """
        raise NotImplementedError

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        """x (..., d_in), y = base(x) (..., d_out) -> (..., d_out).

        Both come in the model's dtype, which need not be the adapter's: cast what is multiplied. The runtime
        casts back to y's.
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"d_in={self.shape.d_in}, d_out={self.shape.d_out}, r={self.config.r}"


VARIANTS: dict[str, type[Variant]] = {}

V = TypeVar("V", bound=type[Variant])


def register(variant: V) -> V:
    """Class decorator: make a variant known by its name. A user's own variants register in the same way.

    Returns the class. Raises ConfigError on a name that is missing or taken, a config that is not the
    variant's, an __init__ of its own, or no hook or two.
    """
    if not isinstance(getattr(variant, "name", None), str):
        raise ConfigError(
            f'{variant.__name__}: found no name, wanted name = "...", equal to its config\'s variant.'
        )
    hooks = [getattr(variant, hook) is not getattr(Variant, hook) for hook in ("adapt_input", "adapt_output")]
    if sum(hooks) != 1:
        raise ConfigError(
            f"{variant.__name__} overrides {sum(hooks)} of adapt_input and adapt_output, wanted one."
        )
    if variant.__init__ is not Variant.__init__:
        found = f"{variant.__name__}: found {variant.__init__.__qualname__}, wanted Variant.__init__"
        raise ConfigError(f"{found}: declare tensors in specs, and fill them in initialise.")
    # A class that is defined again, by a reload or in a notebook, replaces its former self.
    known = VARIANTS.get(variant.name, variant)
    if (known.__module__, known.__qualname__) != (variant.__module__, variant.__qualname__):
        raise ConfigError(
            f"{variant.__name__}: the name {variant.name!r} belongs to {VARIANTS[variant.name].__name__}."
        )
    if getattr(variant.config_class, "variant", None) != variant.name:
        raise ConfigError(
            f"{variant.config_class.__name__}.variant is not {variant.name!r}; each variant needs its own."
        )
    VARIANTS[variant.name] = variant
    return variant
