"""What ties a library's method to a formula: which tensor is which symbol, which setting which option."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from properties.subjects.library import Life

Named = Mapping[str, Tensor]
Symbols = Callable[[Named], dict[str, Tensor]]
Options = Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Binding:
    """oracle: a name of FORMULAS.

    symbols   from the tensors of the adapted layer, by their names there, or of the model by theirs
    options   from the settings, each by its name; those that are read are bound. lawful: False where the
              oracle has no law of how these tensors start
    frozen    symbols that the layer keeps elsewhere than in parameters and buffers
    inert     settings that say nothing of the function or of its init, and why
    dtypes    of the base. Less than these where a finding, or its documentation, says what becomes of
              another: digits are asked for by claims of their own
    """

    oracle: str
    symbols: Symbols
    options: Options = lambda given: {}
    frozen: Callable[[Any], dict[str, Tensor]] = lambda layer: {}
    inert: Mapping[str, str] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ("float32", "float64", "bfloat16")


def called(**names: str) -> Symbols:
    """Each symbol by the name of its tensor; one whose tensor the layer does not have is left out."""
    return lambda tensors: {symbol: tensors[name] for symbol, name in names.items() if name in tensors}


def settings(*fixed: Mapping[str, Any], **names: str) -> Options:
    """Each option by the name of its setting, beside what is the same whatever is set."""

    def options(given: Any) -> dict[str, Any]:
        found: dict[str, Any] = {option: getattr(given, name) for option, name in names.items()}
        return {**found, **{key: value for one in fixed for key, value in one.items()}}

    return options


def inert(why: str, *names: str) -> dict[str, str]:
    """Settings that are left alone, and why."""
    return dict.fromkeys(names, why)


class Read(dict[str, Tensor]):
    """Tensors by name that remembers which were asked for."""

    def __init__(self, tensors: Named) -> None:
        super().__init__(tensors)
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.seen.add(name)
        return super().__getitem__(name)


class Given:
    """Settings as attributes, of a config or of a mapping, that remembers which were asked for."""

    def __init__(self, settings: Any) -> None:
        self._settings, self._seen = settings, set[str]()

    def __getattr__(self, name: str) -> Any:
        self._seen.add(name)
        settings = self._settings
        return settings[name] if isinstance(settings, Mapping) else getattr(settings, name)


def tensors_of(life: Life) -> dict[str, Tensor]:
    """Parameters and buffers of the first adapted layer by their names there, and the model's by theirs."""
    return dict((*_tensors(life.model), *_tensors(life.layer(0))))


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def options_of(binding: Binding, settings: Any, drawn: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """The oracle's options, and the drawn settings that the binding says nothing of."""
    given = Given(settings)
    options = binding.options(given)
    known = given._seen | {*binding.inert}
    return options, [name for name in drawn if name not in known and "dropout" not in name]


def unbound(read: Read, life: Life) -> list[str]:
    """The trained tensors of the model that no symbol is made of."""
    used = {id(read.get(name)) for name in read.seen}
    return [name for name, parameter in life.trainable().items() if id(parameter) not in used]
