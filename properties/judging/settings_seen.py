"""In what a setting of a library shows: tensors, outputs, gradients, a merged weight, files, a refusal."""

import tempfile
from collections.abc import Callable, Container, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, find, settings
from torch import Tensor

from properties.subjects.attaching import seed_inits
from properties.subjects.library import LibraryCase, Life, RefusedError, Settings
from properties.subjects.living import begin, method_of, methods_of, move, output

QUICK = settings(database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
# Of what is dropped out: what shows in training, and no claim draws.
DROPPED = (0.5,)
Portrait = dict[str, Any]
Look = Callable[[LibraryCase], Portrait]


def simplest(method: str) -> Settings:
    """Every switch at its default but the method's own, and the first of each number."""
    # () is an answer too, and a search inside of a drawn case is what Hypothesis refuses.
    said = method_of(method).simplest
    return _shrunk(method) if said is None else said


@cache
def _shrunk(method: str) -> Settings:
    """Of a method whose library says no more of its settings than how they are drawn."""
    return find(method_of(method).settings, lambda given: True, settings=QUICK)


def kin(method: str) -> list[str]:
    """The method and its switches, or those of which it is one."""
    name = method.partition(":")[0]
    family = method.partition("+")[0]
    return [m for m in methods_of(name) if m.partition("+")[0] == family]


def unseen(case: LibraryCase, excused: Container[str]) -> list[str]:
    """The settings of a method that change nothing; of one that is a switch, that switch alone."""
    switch = case.name.partition("+")[2].partition("=")[0]
    if switch:
        tries = {switch: (dict(simplest(case.method))[switch],)}
    else:
        drawn = method_of(case.method).numbers
        tries = {name: DROPPED if "dropout" in name else values[:3] for name, values in drawn.items()}
        tries |= method_of(case.method).keys
    # Of this call alone: what is looked at may be another library the next time.
    look = cache(portrait)
    return [
        name
        for name, values in tries.items()
        if name not in excused and not any(_shows(case, name, value, look) for value in values)
    ]


def _shows(case: LibraryCase, name: str, value: Any, look: Look) -> bool:
    """Whether it changes anything: with the other settings as they are, on a wider layer, with dropout, or
    with one switch of the others thrown.
    """
    own = case.method
    plain, wide = dict(simplest(own)), replace(case, linear=replace(case.linear, d_in=12))
    # Of a narrow one a hundredth of the entries is none, which SuperTuning refuses.
    broad = replace(case, linear=replace(case.linear, d_in=32, d_out=32))
    dropouts = [other for other in method_of(own).numbers if "dropout" in other]
    dropped = [{**plain, other: DROPPED[0]} for other in dropouts]
    tried = [(case, plain), (wide, plain), *((case, before) for before in dropped)]
    tried += [(replace(case, method=m), dict(simplest(m))) for m in kin(own) if m != own]
    tried.append((broad, plain))
    return any(_changes(one, before, name, value, look) for one, before in tried)


def _changes(case: LibraryCase, before: dict[str, Any], name: str, value: Any, look: Look) -> bool:
    before = {other: v for other, v in before.items() if other != name or v != value}
    old = look(replace(case, settings=tuple(before.items())))
    if "refused" in old:
        return False
    return differ(old, look(replace(case, settings=tuple({**before, name: value}.items()))))


def portrait(case: LibraryCase) -> Portrait:
    """All that can be seen of an adapter with these settings, from the same seed."""
    try:
        return dict(_looks(case, begin(case)))
    except RefusedError as refused:
        return {"refused": str(refused)}
    except Exception as error:
        return {"failed": str(error)}


def _looks(case: LibraryCase, life: Life) -> Iterator[tuple[str, Any]]:
    x = case.x()
    yield "fresh", output(life.model, x)
    trainable = life.trainable()
    yield from ((f"init of {name}", tensor.detach().clone()) for name, tensor in trainable.items())
    move(trainable, case.seed)
    y = life.model(x)
    yield "output", y.detach()
    found = torch.autograd.grad(y.square().sum(), list(trainable.values()), allow_unused=True)
    yield from ((f"gradient of {name}", g) for name, g in zip(trainable, found, strict=True))
    life.model.train()
    seed_inits(case.seed)
    yield "output in training", output(life.model, x)
    life.ready()
    offers = method_of(case.method).offers
    if "save" in offers:
        yield "file", _size(life)
    if "merge" in offers:
        try:
            life.merge()
        except Exception as error:
            yield "merge", str(error)
        else:
            yield from ((f"merged {name}", t.clone()) for name, t in life.base().items())


def _size(life: Life) -> int:
    """Of what was saved, the config aside: that holds each setting anyway."""
    with tempfile.TemporaryDirectory() as folder:
        life.save(Path(folder))
        return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.suffix not in (".json", ".md"))


def differ(old: Portrait, new: Portrait) -> bool:
    """Whether one thing that is seen is another."""
    return old.keys() != new.keys() or any(not _same(old[name], new[name]) for name in old)


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return one is other if isinstance(one, Tensor | None) else bool(one == other)
    return one.shape == other.shape and bool(torch.equal(one.nan_to_num(), other.nan_to_num()))
