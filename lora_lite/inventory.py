"""What an adapter leaves alone of a model, and what that is."""

from torch import nn
from torch.nn.modules.conv import _ConvNd

from lora_lite.linear import is_linear
from lora_lite.names import CHILD, base_modules, without_wrappers


def left_alone(model: nn.Module) -> dict[str, str]:
    """Every module that holds parameters of its own and no adapter, by name, and what it is."""
    head = output_head(model)
    adapted = {part for module in model.modules() if CHILD in module._modules for part in module.modules()}
    return {
        name: f"{'the output head, ' if module is head else ''}{what_it_is(module)}"
        for name, module in base_modules(model)
        if module not in adapted and _own(module)
    }


def output_head(model: nn.Module) -> nn.Module | None:
    """The head that turns the last hidden state into logits, where the model tells (as transformers models
    do).
    """
    tell = getattr(model, "get_output_embeddings", None)
    head = tell() if callable(tell) else None
    return None if head is None else without_wrappers(head)


def what_it_is(module: nn.Module) -> str:
    """In words, for a message: what the module is to an adapter, and the shapes of its own parameters."""
    own = _own(module)
    shapes = ", ".join(f"{name} {shape}" for name, shape in own.items())
    if is_linear(module):
        return f"a linear layer ({type(module).__name__}: {shapes})"
    most = max((len(shape) for shape in own.values()), default=0)
    kinds = (
        (isinstance(module, nn.Embedding | nn.EmbeddingBag), "an embedding"),
        (isinstance(module, _ConvNd), "a convolution"),
        (not own, "no layer with parameters of its own"),
        (most > 2, "fused weights, as experts have them, in no layer of their own"),
        (most < 2, "a norm, or other parameters that are no matrix"),
        (True, "matrices that no linear layer holds"),
    )
    kind = next(words for holds, words in kinds if holds)
    return f"{kind} ({type(module).__name__}{': ' if shapes else ''}{shapes})"


def sizes(model: nn.Module) -> dict[str, int]:
    """How many numbers the own parameters of each module hold, by name, adapters aside; tied ones once."""
    seen, counted = set[nn.Parameter](), dict[str, int]()
    for name, module in base_modules(model):
        own = {p for p in module._parameters.values() if p is not None} - seen
        seen |= own
        counted[name] = sum(p.numel() for p in own)
    return counted


def _own(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in module._parameters.items() if p is not None}
