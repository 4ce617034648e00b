"""disabled: the base's own results, while the adapters stay on."""

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from lora_lite.atomic import Step, at_once
from lora_lite.spec import Variant


class Switch:
    """One `with` of disabled(), and whether it is still open.

    A deep copy of the model that is made meanwhile holds the same switch, and so its adapters come back when
    the original's do. One that was pickled holds another, which is closed: nobody would ever close it.
    """

    def __init__(self) -> None:
        self.open = False

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type["Switch"], tuple[()]]:
        return Switch, ()


class Disabled:
    """A context in which the adapters have no effect. It nests, and may be entered again afterwards."""

    def __init__(self, modules: Callable[[], Iterable[Variant]]) -> None:
        self._modules = modules
        self._open: list[tuple[Switch, list[Variant]]] = []

    def __enter__(self) -> None:
        switch, modules = Switch(), list(self._modules())
        self._open.append((switch, modules))
        steps: list[Step] = [
            (vars(module).__setitem__, "switches", (*vars(module)["switches"], switch)) for module in modules
        ]
        at_once([*steps, (vars(switch).__setitem__, "open", True)])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        switch, modules = self._open.pop()
        # By this alone they are on again, on copies too.
        switch.open = False
        for module in modules:
            left = tuple(other for other in vars(module)["switches"] if other is not switch)
            vars(module)["switches"] = left
