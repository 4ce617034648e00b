"""What can be wrong with a library, as one change of peft's LoRA: under it the claim of its name is red."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from properties.subjects.library import LibraryCase, Life
from properties.subjects.peft import Peft, PeftLife

Fault = Callable[[pytest.MonkeyPatch], None]


def attached(change: Callable[[Any], None]) -> Fault:
    """What attach gives is changed."""
    attach = Peft.attach

    def changed(self: Peft, model: nn.Module, case: LibraryCase) -> Life:
        life = attach(self, model, case)
        change(life)
        return life

    return lambda patch: patch.setattr(Peft, "attach", changed)


def giving(wrong: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Fault:
    """The model gives wrong(model, x, y) where it should give y."""

    def change(life: Any) -> None:
        life.model.register_forward_hook(lambda model, args, y: wrong(model, args[0], y))

    return attached(change)


def instead(name: str, wrong: Callable[..., Any]) -> Fault:
    """A method of the life does wrong(original, life, ...)."""
    original = getattr(PeftLife, name)
    return lambda patch: patch.setattr(PeftLife, name, lambda self, *args: wrong(original, self, *args))


def raising(error: Exception, first: Callable[[Any], Any] = lambda model: None) -> Fault:
    """attach does something to the model and raises."""

    def attach(self: Peft, model: nn.Module, case: LibraryCase) -> Life:
        with torch.no_grad():
            first(model)
        raise error

    return lambda patch: patch.setattr(Peft, "attach", attach)


def after(change: Callable[[Any], None]) -> Callable[..., Any]:
    """The original, and then a change."""

    def wrong(original: Any, life: Any, *args: Any) -> Any:
        result = original(life, *args)
        with torch.no_grad():
            change(result if isinstance(result, nn.Module) else life)
        return result

    return wrong


def moved(what: Any) -> None:
    """Every weight of the base, by one percent."""
    tensors = what.base() if isinstance(what, PeftLife) else dict(what.named_parameters())
    for tensor in tensors.values():
        tensor.data.mul_(1.01)


def trained(life: Any) -> None:
    for parameter in life.model.parameters():
        parameter.data.add_(0.1)


def apart(life: Any, counter: Any = itertools.count()) -> None:  # noqa: B008  # counts over all calls
    for parameter in life.trainable().values():
        parameter.data.add_(0.1 * next(counter))


def jump(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return y + sum(p.detach().sum().sign() for n, p in model.named_parameters() if "lora_B" in n)


def failing_merge(original: Any, life: Any) -> None:
    moved(life)
    raise ValueError("half merged")


def merge_again(original: Any, life: Any) -> None:
    if any(layer.merged for layer in life.model.get_base_model()):
        moved(life)
    original(life)


def shared(model: nn.Module, memo: Any) -> nn.Module:
    return model


def copies_share(life: Any) -> None:
    kind = type(life.model)
    life.model.__class__ = type("Shared", (kind,), {"__deepcopy__": shared})


def left_behind(life: Any) -> None:
    eye: list[Tensor] = []

    def hook(model: nn.Module, args: Any, y: Tensor) -> Tensor:
        eye.append(torch.eye(y.shape[-1], dtype=y.dtype)) if not eye else None
        return y @ eye[0]

    # Only in the model itself: a copy has no such hook, so that its bound is what it was.
    life.model.register_forward_hook(hook)


def zeroed_state(life: Any) -> None:
    def hook(module: nn.Module, state: dict[str, Tensor], *rest: Any) -> None:
        state.update({n: torch.zeros_like(t) for n, t in state.items() if "lora_B" in n})

    life.model.register_state_dict_post_hook(hook)


@contextmanager
def never_off(original: Any, life: Any) -> Iterator[None]:
    yield


def settings_are_the_firsts(original: Any, life: Any, *settings: Any) -> Any:
    """A second adapter has those of the first, whatever is asked for."""
    return original(life)


def keeps_a_graph(life: Any) -> None:
    with torch.enable_grad():
        life.model.kept = 2 * torch.ones(1, requires_grad=True)


def fresh_second(original: Any, life: Any) -> None:
    original(life)
    with torch.no_grad():
        for name, parameter in life.model.named_parameters():
            if "second" in name:
                parameter.add_(0.3)


def loaded(change: Callable[[Any], None]) -> Fault:
    load = Peft.load

    def changed(self: Peft, *args: Any) -> Life:
        life = load(self, *args)
        change(life)
        return life

    return lambda patch: patch.setattr(Peft, "load", changed)


def switch_sticks(original: Any, life: Any, *active: int) -> None:
    if active != (0,):
        original(life, *active)


def saved_merged(original: Any, life: Any, folder: Any) -> None:
    if any(layer.merged for layer in life.model.get_base_model()):
        trained(life)
    original(life, folder)


def another(original: Any, life: Any, folder: Any) -> None:
    """The files of other tensors."""
    trained(life)
    original(life, folder)


def another_alpha(life: Any) -> None:
    life.model.peft_config["default"].lora_alpha += 1


def frozen_half(life: Any) -> None:
    next(iter(life.trainable().values())).requires_grad_(False)


class Unknown:
    """What torch.load of weights only refuses."""


def unpicklable(life: Any) -> None:
    life.model.register_state_dict_post_hook(lambda module, state, *rest: state.update(extra=Unknown()))


def jumping_scale(original: Any, life: Any, factor: float) -> None:
    original(life, factor + (1.0 if factor > 0 else 0.0))


def merge_unscaled(original: Any, life: Any) -> None:
    life.scale(1.0)
    original(life)


def unmerge_always(original: Any, life: Any) -> None:
    original(life) if any(layer.merged for layer in life.model.get_base_model()) else moved(life)


def merge_first(original: Any, life: Any) -> None:
    """Of several active adapters one is merged."""
    life.model.merge_adapter(adapter_names=[life.model.base_model.active_adapters[0]])


def first_moves(life: Any) -> None:
    for name, parameter in life.model.named_parameters():
        if "lora_B.default" in name:
            parameter.add_(0.3)


def dead_entry(life: Any) -> None:
    for parameter in life.trainable().values():
        parameter.register_hook(lambda g: g * (torch.arange(g.numel()) > 0).view_as(g))


def dead_tensor(life: Any) -> None:
    next(iter(life.trainable().values())).register_hook(torch.zeros_like)


def base_trains(life: Any) -> None:
    for layer in life.model.get_base_model():
        layer.base_layer.weight.requires_grad_()


def halved_scale(life: Any) -> None:
    """In forward and merge alike: no claim without a formula sees it."""
    for layer in life.model.get_base_model():
        layer.scaling["default"] /= 2


FAULTS: dict[str, Fault] = {
    "attach_works_or_is_refused_clearly": raising(RuntimeError("shapes do not fit")),
    "a_refused_attach_leaves_the_base_as_it_was": raising(
        ValueError("no"), lambda model: model[0].weight.mul_(2)
    ),
    "the_base_keeps_every_bit": attached(moved),
    "a_fresh_adapter_gives_the_base_output": giving(lambda model, x, y: 1.01 * y),
    "the_same_seed_gives_the_same_adapter": attached(apart),
    "the_base_does_not_train": attached(base_trains),
    "the_output_is_as_exact_as_its_dtype": giving(
        lambda model, x, y: y if x.dtype == torch.float64 else 1.01 * y
    ),
    "a_float64_model_keeps_its_digits": giving(lambda model, x, y: y.float().to(y.dtype)),
    "the_output_is_affine_in_the_input": giving(lambda model, x, y: y + 0.1 * y.square()),
    "a_row_depends_on_itself_alone": giving(lambda model, x, y: y + y.reshape(-1, y.shape[-1]).sum(0)),
    "the_layout_of_the_input_does_not_matter": giving(
        lambda model, x, y: y if x.is_contiguous() else 1.01 * y
    ),
    "a_second_call_gives_the_same": giving(lambda model, x, y: y + torch.rand(())),
    "train_and_eval_agree": giving(lambda model, x, y: 1.01 * y if model.training else y),
    "outputs_and_gradients_are_finite": giving(lambda model, x, y: y / 0),
    "a_fresh_adapter_is_finite": giving(lambda model, x, y: y / 0),
    "every_tensor_learns_within_two_steps": attached(dead_tensor),
    "every_entry_matters": attached(dead_entry),
    "gradients_are_those_of_the_forward": giving(lambda model, x, y: 2 * y - y.detach()),
    "a_small_step_is_a_small_change": giving(jump),
    "a_merged_adapter_gives_what_it_gave": instead("merge", after(moved)),
    "an_absorbed_adapter_gives_what_it_gave": instead("absorb", after(moved)),
    "unmerging_gives_it_back": instead("unmerge", after(moved)),
    "merging_twice_changes_nothing_more": instead("merge", merge_again),
    "a_failed_merge_leaves_the_adapter_as_it_was": instead("merge", failing_merge),
    "detach_gives_the_base_back": instead("detach", after(moved)),
    "detach_of_a_merged_adapter_leaves_base_or_function": instead("detach", after(moved)),
    "a_disabled_adapter_gives_the_base_output": instead("disabled", never_off),
    "a_merged_adapter_can_be_disabled": instead("disabled", never_off),
    "a_multiplier_scales_what_is_added": instead("scale", lambda original, life, factor: None),
    "a_second_adapter_leaves_the_first_alone": instead("add_second", after(first_moves)),
    "switching_back_gives_the_first_back": instead("switch", switch_sticks),
    "a_second_adapter_of_other_settings_is_its_own_or_refused": instead(
        "add_second", settings_are_the_firsts
    ),
    "a_merged_adapter_can_be_copied": instead("merge", after(keeps_a_graph)),
    "a_fresh_second_adapter_adds_nothing": instead("add_second", fresh_second),
    "merging_beside_a_second_adapter_folds_the_active_one": instead("switch", switch_sticks),
    "a_loaded_adapter_gives_what_was_saved": loaded(trained),
    "a_loaded_fresh_adapter_gives_what_was_saved": loaded(trained),
    "a_fresh_process_loads_what_was_saved": instead("save", another),
    "settings_come_back": loaded(another_alpha),
    "a_loaded_adapter_trains_on": loaded(frozen_half),
    "a_pickled_state_keeps_every_bit": attached(unpicklable),
    "a_multiplier_is_continuous": instead("scale", jumping_scale),
    "a_merge_keeps_the_multiplier": instead("merge", merge_unscaled),
    "unmerging_what_is_not_merged_changes_nothing": instead("unmerge", unmerge_always),
    "two_adapters_merged_give_what_they_gave": instead("merge", merge_first),
    "an_adapter_saved_while_merged_is_the_same": instead("save", saved_merged),
    "a_state_dict_carries_the_adapter": attached(zeroed_state),
    "a_deep_copy_is_the_same_and_apart": attached(copies_share),
    "a_cast_to_float64_works": attached(left_behind),
    "a_cast_to_bfloat16_works": attached(left_behind),
}
