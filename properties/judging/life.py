"""A life lived twice: on real models with lora_lite, and in plain bookkeeping of what should be true of each
of them.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import singledispatchmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.agreement import assert_merged
from properties.judging.assertions import Violation, assert_holds, assert_refuses
from properties.judging.expected import expected_output
from properties.judging.fixed_models import NO_HOOK, blocked
from properties.judging.life_model import (
    Adapted,
    Truth,
    check,
    check_untouched,
    copied,
    look,
    new,
    refused_dtype,
    same_parameters,
)
from properties.judging.tolerance import coarser
from properties.subjects import subject
from properties.subjects.attaching import seed_inits
from strategies import (
    DTYPES,
    Attach,
    Cast,
    Copy,
    Detach,
    Freeze,
    Fresh,
    Hook,
    Lifecycle,
    Load,
    Merge,
    Mode,
    Save,
    StateDict,
    Step,
    Train,
    gaussian,
)
from strategies.lifecycles import SHAPES
from strategies.options import accepts, build_config

Refusal = tuple[type[Exception], str] | None

MOST_MODELS = 3
LR = 0.15
NOTHING_ON = (ll.NotAttachedError, "carries no adapter")


class Life:
    """Takes steps, and after each compares every model with the truth about it. Raises Violation."""

    def __init__(self, recipe: Lifecycle) -> None:
        self.recipe = recipe
        self.truths = [new(recipe.model, recipe.frozen)]
        self.saved: Truth | None = None
        self.trained = 0
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "adapters.safetensors"

    def close(self) -> None:
        self.folder.cleanup()

    def take(self, step: Step) -> None:
        """One step, and every model is what it should be."""
        truth = self.truths[getattr(step, "on", 0) % len(self.truths)]
        with telling(str(step)):
            self.act(step, truth)
            for one in self.truths:
                (check if one is truth or one.output is None else check_untouched)(one, self.run)

    def run(self, model: nn.Module) -> Tensor:
        """The model on the input of this life, in its own dtype."""
        batch = self.recipe.model.batch(self.recipe.seed)["x"]
        return model(batch.to(next(model.parameters()).dtype))  # type: ignore[no-any-return]

    def join(self, truth: Truth) -> Truth:
        """Another model; the newest gives way where there are too many."""
        self.truths = [*self.truths[: MOST_MODELS - 1], truth]
        return truth

    @singledispatchmethod
    def act(self, step: Step, truth: Truth) -> None:
        raise NotImplementedError(step)

    @act.register
    def _attach(self, step: Attach, truth: Truth) -> None:
        free = [i for i, name in enumerate(truth.linear) if name not in truth.layers]
        layers = (
            step.layers if step.overlap or not free else [i for i in step.layers if i in free] or free[:1]
        )
        names = tuple(truth.linear[i] for i in layers)
        config = build_config(step.variant, step.options, target_names=names)
        fits = all(accepts(step.variant, *SHAPES[i], step.options) for i in layers)
        data = [self.recipe.model.batch(i, size=i)["x"].to(truth.dtype) for i in (1, 4, 5)]
        seed_inits(self.recipe.seed)
        refusal: Refusal = None
        if any(name in truth.layers for name in names):
            refusal = ll.TargetError, "already carry an adapter"
        elif not fits:
            refusal = ll.ConfigError, ""
        elif step.blocked:
            refusal = NO_HOOK
        with (
            outcome(refusal),
            blocked(truth.model.get_submodule(names[-1])) if step.blocked else nullcontext(),
        ):
            handle = ll.attach(truth.model, config, data)
        if refusal is None:
            now = {name: own for name, own in subject.tensors(truth.model).items() if name in names}
            truth.put_on(Adapted(config, step.options, copied(now), copied(now), trainable(handle), handle))

    @act.register
    def _train(self, step: Train, truth: Truth) -> None:
        look(truth, self.run)
        self.trained += 1
        for adapted in truth.adapters:
            for name, parameter in adapted.handle.named_parameters():
                if parameter.grad is not None:
                    # A gradient alone leaves half of the parameters at their init for a step or two.
                    noise = gaussian(self.recipe.seed, f"{name} {self.trained}", tuple(parameter.shape)).to(
                        parameter
                    )
                    parameter.grad = bounded(parameter.grad) + noise
                    target, _, last = name.rpartition(".")
                    own = adapted.tensors[target]
                    own[last] = own[last].add(parameter.grad, alpha=-LR)
            torch.optim.SGD(adapted.handle.parameters(), lr=LR).step()
        truth.model.zero_grad()

    @act.register
    def _detach(self, step: Detach, truth: Truth) -> None:
        handles = [*(one.handle for one in truth.adapters), *truth.gone]
        if step.handle is None or not handles:
            with outcome(None if truth.adapters else NOTHING_ON):
                ll.detach(truth.model)
            truth.take_off(*truth.adapters)
            return
        handle = handles[step.handle % len(handles)]
        going = [one for one in truth.adapters if one.handle is handle]
        with outcome(None if going else (ll.NotAttachedError, "no longer attached")):
            handle.detach()
        truth.take_off(*going)

    @act.register
    def _merge(self, step: Merge, truth: Truth) -> None:
        layers = look(truth, self.run)
        truth.model.zero_grad()
        refusal: Refusal = None if truth.adapters else NOTHING_ON
        if any(name in truth.hooks for name in truth.layers):
            refusal = ll.BaseWeightError, "another hook"
        with outcome(refusal):
            ll.merge(truth.model)
        if refusal is not None:
            return
        wanted = {name: expected_output(layers[name]) for name in truth.layers}
        for name, bound in wanted.items():
            assert_merged(truth.model.get_submodule(name), layers[name], bound)
            now = {
                f"{name}.{what}": t.detach().clone()
                for what, t in truth.model.get_submodule(name).named_parameters()
            }
            truth.base.update(now)
            truth.lineage = object()
        truth.take_off(*truth.adapters)

    @act.register
    def _save(self, step: Save, truth: Truth) -> None:
        refusal: Refusal = None if truth.adapters else NOTHING_ON
        if any(refused_dtype(one.config, one.dtype) for one in truth.adapters):
            refusal = ll.ConfigError, "dtype"
        with outcome(refusal):
            ll.save(truth.model, self.path)
        if refusal is None:
            twin = truth.copied()
            for one in twin.adapters:
                one.config = replace(one.config, dtype=one.dtype)
                one.flags = trainable(one.handle)
            self.saved = twin

    @act.register
    def _load(self, step: Load, truth: Truth) -> None:
        if self.saved is None:
            self.act(Save(), truth)
        if (saved := self.saved) is None:
            return
        if step.fresh:
            truth = self.join(saved.base_alone(new(self.recipe.model, self.recipe.frozen)))
        # Whoever says check_base=False says that the bases compute the same.
        check_base = step.check_base or saved.lineage != truth.lineage
        dtype = None if step.dtype is None else DTYPES[step.dtype]
        refusal: Refusal = None
        if check_base and not same_parameters(saved.base, truth):
            refusal = ll.BaseMismatchError, "made for another base"
        elif any(target in truth.layers for one in saved.adapters for target in one.tensors):
            refusal = ll.TargetError, "already carry an adapter"
        elif dtype is not None and any(refused_dtype(one.config, dtype) for one in saved.adapters):
            refusal = ll.ConfigError, "dtype"
        elif step.blocked:
            refusal = NO_HOOK
        last = truth.model.get_submodule([target for one in saved.adapters for target in one.tensors][-1])
        with outcome(refusal), blocked(last) if step.blocked else nullcontext():
            handles = ll.load(truth.model, self.path, dtype=dtype, check_base=check_base)
        if refusal is not None:
            return
        written = [one.config.variant for one in saved.adapters]
        assert_holds(len(handles) == len(written), claim=f"load gives {handles}, saved were {written}")
        for one, handle in zip(saved.adapters, handles, strict=True):
            config = one.config if dtype is None else replace(one.config, dtype=dtype)
            loaded = Adapted(
                config, one.options, copied(one.tensors), copied(one.initial), dict(one.flags), handle
            )
            if dtype is not None:
                loaded.cast(dtype)
            if not check_base:
                loaded.rounded_to(coarser(saved.coarsest, truth.coarsest))
            truth.put_on(loaded)

    @act.register
    def _copy(self, step: Copy, truth: Truth) -> None:
        self.join(truth.copied())

    @act.register
    def _fresh(self, step: Fresh, truth: Truth) -> None:
        recipe = self.recipe.model
        self.join(new(replace(recipe, seed=recipe.seed + 1) if step.other else recipe, self.recipe.frozen))

    @act.register
    def _state_dict(self, step: StateDict, truth: Truth) -> None:
        into = self.truths[step.into % len(self.truths)]
        state = {name: tensor.clone() for name, tensor in truth.model.state_dict().items()}
        if {n: t.shape for n, t in state.items()} != {n: t.shape for n, t in into.model.state_dict().items()}:
            return
        into.model.load_state_dict(state)
        into.output = None
        into.lineage = truth.lineage
        into.coarsest = coarser(into.coarsest, truth.coarsest)
        into.base = {name: truth.base[name].to(tensor.dtype) for name, tensor in into.base.items()}
        for target, adapted in into.layers.items():
            for side in ("tensors", "initial"):
                given, own = getattr(truth.layers[target], side)[target], getattr(adapted, side)[target]
                own.update({name: given[name].to(tensor.dtype) for name, tensor in own.items()})
            adapted.rounded_to(coarser(into.coarsest, truth.layers[target].dtype))

    @act.register
    def _mode(self, step: Mode, truth: Truth) -> None:
        names = list(truth.training)
        chosen = names[step.module % len(names)]
        truth.model.get_submodule(chosen).train(step.training)
        for name in names:
            if not chosen or name == chosen or name.startswith(f"{chosen}."):
                truth.training[name] = step.training

    @act.register
    def _hook(self, step: Hook, truth: Truth) -> None:
        names = list(truth.training)
        name = names[step.module % len(names)]
        module = truth.model.get_submodule(name)
        module.register_forward_pre_hook(looks)
        module.register_forward_hook(looks)
        truth.hooks[name] = truth.hooks.get(name, 0) + 2

    @act.register
    def _freeze(self, step: Freeze, truth: Truth) -> None:
        places: list[tuple[dict[str, bool], str, Tensor]] = [
            (truth.flags, name, truth.model.get_parameter(name)) for name in truth.flags
        ]
        for adapted in truth.adapters:
            places += [
                (adapted.flags, name, parameter) for name, parameter in adapted.handle.named_parameters()
            ]
        if step.parameter is not None:
            places = [places[step.parameter % len(places)]]
        for flags, name, parameter in places:
            flags[name] = not flags[name]
            parameter.requires_grad_(flags[name])

    @act.register
    def _cast(self, step: Cast, truth: Truth) -> None:
        dtype = DTYPES[step.dtype]
        truth.model.to(dtype)
        truth.base = {name: tensor.to(dtype) for name, tensor in truth.base.items()}
        truth.coarsest = coarser(truth.coarsest, dtype)
        for adapted in truth.adapters:
            adapted.cast(dtype)


def looks(module: nn.Module, *seen: Any) -> None:
    """A hook that changes nothing."""


def trainable(handle: ll.Adapter) -> dict[str, bool]:
    """As it is before the user freezes any of it: parameters train and buffers do not."""
    return dict.fromkeys(dict(handle.named_parameters()), True) | dict.fromkeys(
        dict(handle.named_buffers()), False
    )


def bounded(gradient: Tensor) -> Tensor:
    """No entry above 1, so that a life of any length stays within numbers that every dtype can hold."""
    largest = gradient.abs().max()
    return gradient / largest if 0 < largest < torch.inf else torch.zeros_like(gradient)


@contextmanager
def telling(step: str) -> Iterator[None]:
    """A violation says after which step; and so does whatever a model raises that cannot be looked at any
    more.
    """
    try:
        yield
    except Violation as violation:
        raise Violation(f"after {step}: {violation}", tensor=violation.tensor) from None
    except Exception as error:
        raise Violation(f"after {step}: raised {type(error).__name__}: {error}") from error


@contextmanager
def outcome(refusal: Refusal) -> Iterator[None]:
    """The body raises this error with this in its message, or, where it is None, nothing."""
    with assert_refuses(*refusal, claim="the step") if refusal else nullcontext():
        yield


def live(recipe: Lifecycle) -> None:
    """All steps. Raises Violation at the first after which something is not as it should be."""
    life = Life(recipe)
    try:
        for step in recipe.steps:
            life.take(step)
    finally:
        life.close()
