"""The ways in which attach is asked for layers, each tried on a model of its own: what it takes, and that all
of it learns.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.linear import linear_shape
from properties.judging.assertions import bits
from properties.subjects import subject
from properties.subjects.attaching import seed_inits, usual_size
from strategies import gaussian
from strategies.layers import can_calibrate
from strategies.options import accepts, build_config

if TYPE_CHECKING:
    from properties.probe.trial import Trial

Path = Callable[["Trial"], Iterator[str]]
ATTENTION = re.compile("attn|attention", re.IGNORECASE)


class NotApplicableError(Exception):
    """The model has not what this path is about."""


@dataclass
class Paths:
    """Of PATHS: how many were tried, what is wrong with those that do not work, and which do not apply, and
    why.
    """

    tried: int = 0
    wrong: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def try_paths(trial: "Trial") -> Paths:
    """All of them."""
    paths = Paths()
    for path in PATHS:
        name = path.__name__.replace("_", " ")
        try:
            paths.wrong += [f"{name}: {what}" for what in path(trial)]
            paths.tried += 1
        except NotApplicableError as reason:
            paths.left_out.append(f"{name}: {reason}")
    return paths


def attention_beside_a_gated_feed_forward(trial: "Trial") -> Iterator[str]:
    """The variant on a block's attention, ia3_ff on what else the block has."""
    yield from _side_by_side(trial, first=True, partner="ia3_ff")


def feed_forward_beside_a_gated_attention(trial: "Trial") -> Iterator[str]:
    """The variant on a block's feed-forward, ia3 on its attention."""
    yield from _side_by_side(trial, first=False, partner="ia3")


def _side_by_side(trial: "Trial", *, first: bool, partner: str) -> Iterator[str]:
    block = f"{trial.bench.blocks}.{trial.bench.layers[-1]}."
    linear = [
        n for n, m in trial.bench.base.named_modules() if isinstance(m, nn.Linear) and n.startswith(block)
    ]
    attention, rest = by_attention(linear)
    own, other = (attention, rest) if first else (rest, attention)
    model = trial.case().build()
    handles = [_attach(trial, model, own), _attach(trial, model, other, variant=partner)]
    for adapter, wanted in zip(handles, (own, other), strict=True):
        if list(adapter.targets) != wanted:
            yield f"{adapter.config.variant} is on {adapter.targets}, wanted {wanted}"
    yield from _not_learning(model, lambda: trial.loss(model).mean())


def by_attention(linear: list[str]) -> tuple[list[str], list[str]]:
    """The linear layers of a block in its attention, and the others.

    Raises NotApplicableError where one kind is missing.
    """
    attention = [name for name in linear if ATTENTION.search(name)]
    rest = [name for name in linear if name not in attention]
    for found, what in ((attention, "attention"), (rest, "feed-forward")):
        if not found:
            raise NotApplicableError(f"no {what} found among {', '.join(linear)}")
    return attention, rest


def several_blocks_by_index(trial: "Trial") -> Iterator[str]:
    """Every linear layer of the blocks asked for, and no other."""
    wanted = [
        name
        for name, module in trial.bench.base.named_modules()
        if isinstance(module, nn.Linear)
        and any(name.startswith(f"{trial.bench.blocks}.{layer}.") for layer in trial.bench.layers)
    ]
    if list(trial.made.initial) != wanted:
        yield f"layers={trial.bench.layers} took {list(trial.made.initial)}, wanted {wanted}"


def a_pattern_that_matches_nothing(trial: "Trial") -> Iterator[str]:
    """Refused by name, and nothing is left behind."""
    model = trial.case().build()
    before = len(list(model.modules()))
    with _refused(ll.TargetError) as refused:
        _attach(trial, model, ["no_such_layer"])
    if not refused or "no_such_layer" not in refused[0]:
        yield f"not refused by name: {refused}"
    if len(list(model.modules())) != before:
        yield "a refused attach left modules behind"


def a_tied_output_head(trial: "Trial") -> Iterator[str]:
    """Left alone unless asked for; with it, logits move and the input embedding keeps its bits."""
    yield from _output_head(trial, tied=True)


def an_output_head_of_its_own(trial: "Trial") -> Iterator[str]:
    """The same where the head does not share its weight with the input embedding."""
    yield from _output_head(trial, tied=False)


def _output_head(trial: "Trial", *, tied: bool) -> Iterator[str]:
    kept = _with_head(trial, tied)
    (name,) = (n for n, m in kept.named_modules() if m is kept.get_output_embeddings())
    if name in ll.attach(kept, _config(trial.variant), trial.bench.calibration()).targets:
        yield f"{name} was taken unasked"
    model = _with_head(trial, tied)
    weight, plain = model.get_input_embeddings().weight, _logits(trial, model)
    before = weight.detach().clone()
    adapter = _attach(trial, model, [name])
    if list(adapter.targets) != [name]:
        yield f"asked for {name}, took {adapter.targets}"
    _move(adapter)
    if torch.equal(_logits(trial, model), plain):
        yield f"an adapter on {name} does not change the logits"
    yield from _not_learning(model, partial(_logit_loss, trial, model), moved=True)
    if not torch.equal(bits(weight), bits(before)):
        yield f"an adapter on {name} changed the input embedding"


def _with_head(trial: "Trial", tied: bool) -> Any:
    """A copy of the model, its head's weight that of the input embedding, or one of its own."""
    model: Any = trial.case().build()
    tell = getattr(model, "get_output_embeddings", None)
    head = tell() if tell is not None else None
    if head is None:
        raise NotApplicableError("the model has no output head")
    head.weight = model.get_input_embeddings().weight if tied else nn.Parameter(head.weight.detach().clone())
    model.config.tie_word_embeddings = tied
    return model


def calibration(trial: "Trial") -> Iterator[str]:
    """Wanted by a variant that needs it, made use of by one that can, and not looked at by the others."""
    variant = ll.VARIANTS[trial.variant]
    name = next(iter(trial.made.initial))
    model = trial.case().build()
    with _refused(ll.CalibrationError) as refused:
        _attach(trial, model, [name], calibrated=False)
    if bool(refused) != variant.needs_calibration:
        yield f"attach without data is {'refused' if refused else 'accepted'}"
    if refused:
        return
    with_data = trial.case().build()
    _attach(trial, with_data, [name])
    plain, informed = (subject.tensors(m)[name] for m in (model, with_data))
    same = all(torch.equal(plain[n], informed[n]) for n in plain)
    if same == can_calibrate(trial.variant):
        yield f"attach with data starts {'where attach without does' if same else 'elsewhere'}"


PATHS: tuple[Path, ...] = (
    several_blocks_by_index,
    attention_beside_a_gated_feed_forward,
    feed_forward_beside_a_gated_attention,
    a_pattern_that_matches_nothing,
    a_tied_output_head,
    an_output_head_of_its_own,
    calibration,
)


def _config(variant: str, **common: Any) -> ll.AdapterConfig:
    from properties.subjects.pretrained import options_at_rank_8

    return build_config(variant, options_at_rank_8(variant), **common)


def _attach(
    trial: "Trial", model: nn.Module, names: list[str], *, variant: str | None = None, calibrated: bool = True
) -> ll.Adapter:
    from properties.subjects.pretrained import options_at_rank_8

    attached = variant or trial.variant
    for shape in (linear_shape(m) for n, m in model.named_modules() if n in names):
        if not accepts(attached, shape.d_in, shape.d_out, options_at_rank_8(attached)):
            raise NotApplicableError(f"{attached} takes no layer {shape.d_in} → {shape.d_out}")
    seed_inits(trial.seed)
    config = _config(variant or trial.variant, target_names=tuple(re.escape(name) for name in names))
    return ll.attach(model, config, trial.bench.calibration() if calibrated else None)


def _inputs(trial: "Trial") -> dict[str, Tensor]:
    return {name: tensor[trial.bench.held_out] for name, tensor in trial.bench.inputs.items()}


@torch.no_grad()
def _logits(trial: "Trial", model: Any) -> Tensor:
    return model(**_inputs(trial)).logits  # type: ignore[no-any-return]


def _logit_loss(trial: "Trial", model: Any) -> Tensor:
    return model(**_inputs(trial)).logits.square().mean()  # type: ignore[no-any-return]


def _move(adapter: ll.Adapter) -> None:
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            parameter.add_(
                gaussian(0, name, tuple(parameter.shape)).to(parameter), alpha=0.5 * usual_size(parameter)
            )


def _not_learning(model: nn.Module, loss: Callable[[], Tensor], *, moved: bool = False) -> Iterator[str]:
    """The parameters whose gradient is not what they declare; once moved, all must have one."""
    loss().backward()  # type: ignore[no-untyped-call]
    declared = subject.first_gradients(model)
    for target, tensors in subject.tensors(model).items():
        for name, wanted in declared[target].items():
            gradient = tensors[name].grad
            got = gradient is not None and bool(gradient.any())
            if got != (moved or wanted == "nonzero"):
                yield f"{target}.{name} gets {'a' if got else 'no'} gradient"


@contextmanager
def _refused(kind: type[Exception]) -> Iterator[list[str]]:
    """Collects the message of an error of this kind."""
    caught: list[str] = []
    try:
        yield caught
    except kind as error:
        caught.append(str(error))
