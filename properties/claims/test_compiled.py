"""torch.compile: the compiled model gives what the formula gives, in one graph, and sees every adapter that
comes and goes.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.agreement import assert_agrees
from properties.judging.assertions import Violation, assert_holds, assert_identical
from properties.judging.claim import claim
from properties.judging.fixed_models import moved, on, x
from properties.subjects import subject
from properties.subjects.attaching import Attached, attach
from properties.subjects.observation import Layer
from strategies import LinearRecipe, gaussian
from strategies.layers import calibration_batches
from strategies.options import Options, ranks, simplest

# What a compiler may get wrong: a bias, several leading dimensions, a cast between base and adapter.
LAYERS = (
    (LinearRecipe(12, 8, bias=True), (5,)),
    (LinearRecipe(8, 12, dtype="bfloat16", seed=1), (2, 3)),
)
STEPS = 3


def counting(backend: str) -> Any:
    """The backend, counting its compilations."""
    # Here: it takes two seconds that every other run is spared.
    from torch._dynamo.testing import CompileCounterWithBackend

    return CompileCounterWithBackend(backend)


class Beside(nn.Module):
    """Layers that have nothing to do with each other, each with an input of its own: several cases in one
    compilation.
    """

    def __init__(self, recipes: tuple[LinearRecipe, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(recipe.build() for recipe in recipes)

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return [layer(given) for layer, given in zip(self.layers, inputs, strict=True)]


@dataclass(frozen=True)
class CompiledCase:
    """A trained adapter on each of LAYERS."""

    variant: str
    options: Options
    calibrated: bool
    trained: bool = True
    seed: int = 0

    def build(self) -> nn.Module:
        return Beside(tuple(recipe for recipe, _ in LAYERS))

    def inputs(self) -> list[Tensor]:
        dtypes = [layer.weight.dtype for layer in self.build().layers]  # type: ignore[union-attr]
        shapes = [(*tokens, recipe.d_in) for recipe, tokens in LAYERS]
        return [
            gaussian(self.seed, f"x{i}", shape, dtype)
            for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
        ]

    def calibration(self) -> list[tuple[Tensor, ...]] | None:
        if not self.calibrated:
            return None
        given = self.inputs()
        return list(zip(*(calibration_batches(self.seed, x.shape[-1], x.dtype) for x in given), strict=True))


def compiled_case(variant: str) -> CompiledCase:
    """Rank 4 where there are ranks, alpha apart from it, the variant's own options at their first values."""
    options = simplest(variant)
    if "alpha" not in ll.VARIANTS[variant].config_class.unused:
        options = (*options, ("alpha", 6.0))
    rank = 4 if 4 in ranks(variant, 8, 12, options) else None
    return CompiledCase(
        variant, options if rank is None else (*options, ("r", rank)), ll.VARIANTS[variant].needs_calibration
    )


def compiled_cases(variant: str) -> SearchStrategy[CompiledCase]:
    """The one case."""
    return st.just(compiled_case(variant))


def observe_whole(attached: Attached, run: Any) -> list[Layer]:
    """As observe(), from outside of the model: each layer's input and output are the model's own."""
    inputs = [given.requires_grad_() for given in attached.case.inputs()]  # type: ignore[union-attr]
    outputs = run(*inputs)
    layers = []
    for (name, tensors), given, y in zip(
        subject.tensors(attached.model).items(), inputs, outputs, strict=True
    ):
        base: Any = attached.model.get_submodule(name)
        bias = None if base.bias is None else base.bias.detach()
        layers.append(
            layer := Layer(name, attached.case, base.weight.detach(), bias, tensors, attached.initial[name])
        )
        y.retain_grad()
        layer.x, layer.y = given, y
    torch.autograd.backward(outputs, [gaussian(0, "upstream", tuple(y.shape), y.dtype) for y in outputs])
    return layers


# inductor's own: one where it is imported, one where it lowers diag_embed.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch._prims_common.check`:FutureWarning")
@claim(compiled_cases, stage="engine", needs=("oracle", "compiler"), capability="compile", slow=True)
def test_compiled_output_and_gradients_are_the_oracles(case: CompiledCase) -> None:
    """With inductor, within the bounds that eager code has; one graph without a break, for three steps of
    training.
    """
    attached = attach(case)  # type: ignore[arg-type]  # another kind of case, not observe()d
    torch.compiler.reset()
    counter = counting("inductor")
    run = torch.compile(attached.model, backend=counter, fullgraph=True)
    optimiser = torch.optim.SGD([p for p in attached.model.parameters() if p.requires_grad], lr=0.01)
    for number in range(STEPS):
        for layer in observe_whole(attached, run):
            assert_agrees(layer, where=f"compiled, at step {number},")
        optimiser.step()
        optimiser.zero_grad()
    found = f"{STEPS} steps took {counter.frame_count} compilations, wanted one"
    assert_holds(counter.frame_count == 1, claim=found)


@claim(stage="engine", subject="lora_lite")
def test_a_compiled_model_sees_adapters_come_and_go() -> None:
    """In one graph, compiled anew at attach and detach and not from one step to the next.

    The user froze the base before.
    """
    model = nn.Sequential(*(LinearRecipe(4, 4, seed=seed).build() for seed in (0, 1))).requires_grad_(False)
    torch.compiler.reset()
    counter = counting("eager")
    run = torch.compile(model, backend=counter, fullgraph=True)

    def assert_as_eager(what: str) -> None:
        try:
            got = run(x(3))
        except torch._dynamo.exc.TorchDynamoException as error:
            raise Violation(f"{what}: the compiled model breaks with {error}") from error
        assert_identical(
            got.detach(), model(x(3)).detach(), what=f"{what}: the compiled output", like="the eager one"
        )

    assert_as_eager("the plain base")
    # One after the layer, one before it.
    adapters = [
        moved(on(model, variant, target_names=name)) for name, variant in (("0", "lora"), ("1", "hra"))
    ]
    assert_as_eager("lora and hra on a compiled model")
    compilations = counter.frame_count
    for step in range(STEPS):
        for adapter in adapters:
            moved(adapter, seed=step)
        assert_as_eager(f"after step {step}")
    assert_holds(
        counter.frame_count == compilations,
        claim=f"{counter.frame_count - compilations} of {STEPS} steps compiled",
    )
    adapters[0].detach()
    assert_as_eager("one of two detached")
