"""torch.compile: the compiled model gives what the formula gives, in one graph, and sees every adapter that
comes and goes.
"""

from typing import Any

import pytest
import torch
from torch import nn

import lora_lite as ll
from properties.judging.agreement import assert_agrees
from properties.judging.assertions import Violation, assert_holds, assert_identical
from properties.judging.claim import claim
from properties.judging.fixed_models import moved, on, x
from properties.subjects import subject
from properties.subjects.attaching import Attached, attach
from properties.subjects.layer_runs import Layer
from strategies import LinearRecipe, gaussian
from strategies.compiled import CompiledCase, compiled_cases

STEPS = 3


def counting(backend: str) -> Any:
    """The backend, counting its compilations."""
    # Here: it takes two seconds that every other run is spared.
    from torch._dynamo.testing import CompileCounterWithBackend

    return CompileCounterWithBackend(backend)


def run_whole(attached: Attached, run: Any) -> list[Layer]:
    """As run_layers(), from outside of the model: each layer's input and output are the model's own."""
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
@claim(compiled_cases, stage="engine", needs=("compiler",), capability="compile", slow=True)
def test_compiled_output_and_gradients_are_the_oracles(case: CompiledCase) -> None:
    """With inductor, within the bounds that eager code has; one graph without a break, for three steps of
    training.
    """
    attached = attach(case)  # type: ignore[arg-type]  # another kind of case, not run_layers()d
    torch.compiler.reset()
    counter = counting("inductor")
    run = torch.compile(attached.model, backend=counter, fullgraph=True)
    optimiser = torch.optim.SGD([p for p in attached.model.parameters() if p.requires_grad], lr=0.01)
    for number in range(STEPS):
        for layer in run_whole(attached, run):
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

    def assert_as_eager(when: str) -> None:
        try:
            got = run(x(3))
        except torch._dynamo.exc.TorchDynamoException as error:
            raise Violation(f"the compiled model breaks {when}: {error}") from error
        what = f"the output of the compiled model {when}"
        assert_identical(got.detach(), model(x(3)).detach(), what=what, like="the eager one's")

    assert_as_eager("without an adapter")
    # One after the layer, one before it.
    adapters = [
        moved(on(model, variant, target_names=name)) for name, variant in (("0", "lora"), ("1", "hra"))
    ]
    assert_as_eager("with lora and hra attached")
    compilations = counter.frame_count
    for step in range(STEPS):
        for adapter in adapters:
            moved(adapter, seed=step)
        assert_as_eager(f"after training step {step}")
    anew = counter.frame_count - compilations
    found = f"the model was compiled anew in {anew} of {STEPS} training steps, wanted in none"
    assert_holds(anew == 0, claim=found)
    adapters[0].detach()
    assert_as_eager("with one of two adapters detached")


@claim(stage="engine", subject="lora_lite")
def test_a_compiled_wrapper_stands_for_its_model() -> None:
    """Names carry no prefix, and detach gives the base's flags back."""
    model = nn.ModuleDict({"part": nn.Sequential(nn.Linear(4, 4)), "rest": nn.Linear(4, 4)})
    wrapper: nn.Module = torch.compile(model, backend="eager")  # type: ignore[assignment]  # a module for a module
    targets = ll.attach(wrapper, ll.LoRAConfig(r=2)).targets
    wanted = ("part.0", "rest")
    found = f"attach through a compiled wrapper adapted {targets}, wanted {wanted}"
    assert_holds(targets == wanted, claim=found)
    ll.detach(wrapper)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert_holds(not frozen, claim=f"{frozen} are frozen after detach through a compiled wrapper")
