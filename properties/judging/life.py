"""A life lived twice: on real models with lora_lite, and in plain bookkeeping of what should be true."""

import tempfile
from contextlib import nullcontext
from dataclasses import replace
from functools import singledispatchmethod
from pathlib import Path

import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.agreement import add_a_constant, assert_merged
from properties.judging.assertions import assert_holds
from properties.judging.expected import expected_output
from properties.judging.fixed_models import NO_HOOK, blocked
from properties.judging.life_checks import check, check_untouched, look
from properties.judging.life_ledger import Adapted, Ledger, copied, new, refused_dtype, same_base
from properties.judging.life_steps import (
    NOTHING_ON,
    Refusal,
    bounded,
    looks,
    outcome,
    telling,
    trainable,
    warned,
)
from properties.judging.place import in_memory
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

MOST_MODELS = 3
LR = 0.15


class Life:
    """Takes steps, and after each compares every model with the ledger about it. Raises Violation."""

    def __init__(self, recipe: Lifecycle) -> None:
        self.recipe = recipe
        self.ledgers = [new(recipe.model, recipe.frozen)]
        self.saved: Ledger | None = None
        self.trained = 0
        self.folder = tempfile.TemporaryDirectory(dir=in_memory())
        self.path = Path(self.folder.name) / "adapters.safetensors"

    def close(self) -> None:
        self.folder.cleanup()

    def take(self, step: Step) -> None:
        """One step, and every model is what it should be."""
        ledger = self.ledgers[getattr(step, "on", 0) % len(self.ledgers)]
        with telling(str(step)):
            self.act(step, ledger)
            for one in self.ledgers:
                (check if one is ledger or one.output is None else check_untouched)(one, self.run)

    def run(self, model: nn.Module) -> Tensor:
        """The model on the input of this life, in its own dtype."""
        batch = self.recipe.model.batch(self.recipe.seed)["x"]
        return model(batch.to(next(model.parameters()).dtype))  # type: ignore[no-any-return]

    def join(self, ledger: Ledger) -> Ledger:
        """Another model; the newest gives way where there are too many."""
        self.ledgers = [*self.ledgers[: MOST_MODELS - 1], ledger]
        return ledger

    @singledispatchmethod
    def act(self, step: Step, ledger: Ledger) -> None:
        raise NotImplementedError(step)

    @act.register
    def _attach(self, step: Attach, ledger: Ledger) -> None:
        free = [i for i, name in enumerate(ledger.linear) if name not in ledger.layers]
        layers = (
            step.layers if step.overlap or not free else [i for i in step.layers if i in free] or free[:1]
        )
        names = tuple(ledger.linear[i] for i in layers)
        config = build_config(step.variant, step.options, target_names=names)
        fits = all(accepts(step.variant, *SHAPES[i], step.options) for i in layers)
        data = [self.recipe.model.batch(i, size=i)["x"].to(ledger.dtype) for i in (1, 4, 5)]
        seed_inits(self.recipe.seed)
        refusal: Refusal = None
        if any(name in ledger.layers for name in names):
            refusal = ll.TargetError, "already carry an adapter"
        elif not fits:
            refusal = ll.ConfigError, ""
        elif step.blocked:
            refusal = NO_HOOK
        with (
            outcome(refusal),
            blocked(ledger.model.get_submodule(names[-1])) if step.blocked else nullcontext(),
        ):
            handle = ll.attach(ledger.model, config, data)
        if refusal is None:
            now = {name: own for name, own in subject.tensors(ledger.model).items() if name in names}
            ledger.put_on(Adapted(config, step.options, copied(now), copied(now), trainable(handle), handle))

    @act.register
    def _train(self, step: Train, ledger: Ledger) -> None:
        look(ledger, self.run)
        self.trained += 1
        for adapted in ledger.adapters:
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
        ledger.model.zero_grad()

    @act.register
    def _detach(self, step: Detach, ledger: Ledger) -> None:
        handles = [*(one.handle for one in ledger.adapters), *ledger.gone]
        if step.handle is None or not handles:
            with outcome(None if ledger.adapters else NOTHING_ON):
                ll.detach(ledger.model)
            ledger.take_off(*ledger.adapters)
            return
        handle = handles[step.handle % len(handles)]
        going = [one for one in ledger.adapters if one.handle is handle]
        with outcome(None if going else (ll.NotAttachedError, "no longer attached")):
            handle.detach()
        ledger.take_off(*going)

    @act.register
    def _merge(self, step: Merge, ledger: Ledger) -> None:
        layers = look(ledger, self.run)
        ledger.model.zero_grad()
        refusal: Refusal = None if ledger.adapters else NOTHING_ON
        if any(name in ledger.hooks for name in ledger.layers):
            refusal = ll.BaseWeightError, "another hook"
        elif ledger.adapters and add_a_constant(ledger.model):
            refusal = ll.BaseWeightError, "adds a constant"
        with outcome(refusal):
            ll.merge(ledger.model)
        if refusal is not None:
            return
        wanted = {name: expected_output(layers[name]) for name in ledger.layers}
        for name, bound in wanted.items():
            assert_merged(ledger.model.get_submodule(name), layers[name], bound)
            now = {
                f"{name}.{what}": t.detach().clone()
                for what, t in ledger.model.get_submodule(name).named_parameters()
            }
            ledger.base.update(now)
            ledger.lineage = object()
        ledger.take_off(*ledger.adapters)

    @act.register
    def _save(self, step: Save, ledger: Ledger) -> None:
        refusal: Refusal = None if ledger.adapters else NOTHING_ON
        if any(refused_dtype(one.config, one.dtype) for one in ledger.adapters):
            refusal = ll.ConfigError, "dtype"
        thawed = "require gradients" if refusal is None and ledger.thawed else None
        with outcome(refusal), warned(thawed):
            ll.save(ledger.model, self.path)
        if refusal is None:
            twin = ledger.copied()
            for one in twin.adapters:
                one.config = replace(one.config, dtype=one.dtype)
                one.flags = trainable(one.handle)
            self.saved = twin

    @act.register
    def _load(self, step: Load, ledger: Ledger) -> None:
        if self.saved is None:
            self.act(Save(), ledger)
        if (saved := self.saved) is None:
            return
        if step.fresh:
            ledger = self.join(saved.base_alone(new(self.recipe.model, self.recipe.frozen)))
        # Whoever says check_base=False says that the bases compute the same.
        check_base = step.check_base or saved.lineage != ledger.lineage
        dtype = None if step.dtype is None else DTYPES[step.dtype]
        refusal: Refusal = None
        if check_base and not same_base(saved.base, ledger):
            refusal = ll.BaseMismatchError, "made for another base"
        elif any(target in ledger.layers for one in saved.adapters for target in one.tensors):
            refusal = ll.TargetError, "already carry an adapter"
        elif dtype is not None and any(refused_dtype(one.config, dtype) for one in saved.adapters):
            refusal = ll.ConfigError, "dtype"
        elif step.blocked:
            refusal = NO_HOOK
        last = ledger.model.get_submodule([target for one in saved.adapters for target in one.tensors][-1])
        with outcome(refusal), blocked(last) if step.blocked else nullcontext():
            handles = ll.load(ledger.model, self.path, dtype=dtype, check_base=check_base)
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
                loaded.rounded_to(coarser(saved.coarsest, ledger.coarsest))
            ledger.put_on(loaded)

    @act.register
    def _copy(self, step: Copy, ledger: Ledger) -> None:
        self.join(ledger.copied())

    @act.register
    def _fresh(self, step: Fresh, ledger: Ledger) -> None:
        recipe = self.recipe.model
        self.join(new(replace(recipe, seed=recipe.seed + 1) if step.other else recipe, self.recipe.frozen))

    @act.register
    def _state_dict(self, step: StateDict, ledger: Ledger) -> None:
        into = self.ledgers[step.into % len(self.ledgers)]
        state = {name: tensor.clone() for name, tensor in ledger.model.state_dict().items()}
        if {n: t.shape for n, t in state.items()} != {n: t.shape for n, t in into.model.state_dict().items()}:
            return
        into.model.load_state_dict(state)
        into.take_numbers_of(ledger)

    @act.register
    def _mode(self, step: Mode, ledger: Ledger) -> None:
        names = list(ledger.training)
        chosen = names[step.module % len(names)]
        ledger.model.get_submodule(chosen).train(step.training)
        for name in names:
            if not chosen or name == chosen or name.startswith(f"{chosen}."):
                ledger.training[name] = step.training

    @act.register
    def _hook(self, step: Hook, ledger: Ledger) -> None:
        names = list(ledger.training)
        name = names[step.module % len(names)]
        module = ledger.model.get_submodule(name)
        module.register_forward_pre_hook(looks)
        module.register_forward_hook(looks)
        ledger.hooks[name] = ledger.hooks.get(name, 0) + 2

    @act.register
    def _freeze(self, step: Freeze, ledger: Ledger) -> None:
        places: list[tuple[dict[str, bool], str, Tensor]] = [
            (ledger.flags, name, ledger.model.get_parameter(name)) for name in ledger.flags
        ]
        for adapted in ledger.adapters:
            places += [
                (adapted.flags, name, parameter) for name, parameter in adapted.handle.named_parameters()
            ]
        if step.parameter is not None:
            places = [places[step.parameter % len(places)]]
        for flags, name, parameter in places:
            flags[name] = not flags[name]
            parameter.requires_grad_(flags[name])

    @act.register
    def _cast(self, step: Cast, ledger: Ledger) -> None:
        dtype = DTYPES[step.dtype]
        ledger.model.to(dtype)
        ledger.base = {name: tensor.to(dtype) for name, tensor in ledger.base.items()}
        ledger.coarsest = coarser(ledger.coarsest, dtype)
        for adapted in ledger.adapters:
            adapted.cast(dtype)


def live(recipe: Lifecycle) -> None:
    """All steps. Raises Violation at the first after which something is not as it should be."""
    life = Life(recipe)
    try:
        for step in recipe.steps:
            life.take(step)
    finally:
        life.close()
