"""What a module is to an adapter, in words."""

from torch import nn
from torch.nn.modules.conv import _ConvNd

from lora_lite.linear import is_linear
from lora_lite.names import without_wrappers


def output_head(model: nn.Module) -> nn.Module | None:
    """The head that turns the last hidden state into logits, where the model tells (as transformers models
    do).
    """
    tell = getattr(model, "get_output_embeddings", None)
    head = tell() if callable(tell) else None
    return None if head is None else without_wrappers(head)


def what_it_is(module: nn.Module) -> str:
    """Its kind, its class and the shapes of its own parameters."""
    own = {name: tuple(p.shape) for name, p in module._parameters.items() if p is not None}
    shapes = ", ".join(f"{name} {shape}" for name, shape in own.items())
    most = max((len(shape) for shape in own.values()), default=0)
    kinds = (
        (is_linear(module), "a linear layer"),
        (isinstance(module, nn.Embedding | nn.EmbeddingBag), "an embedding"),
        (isinstance(module, _ConvNd), "a convolution"),
        (not own, "no layer with parameters of its own"),
        (most > 2, "fused weights, as experts have them"),
        (most < 2, "a norm, or other parameters that are no matrix"),
        (True, "matrices that no linear layer holds"),
    )
    kind = next(words for holds, words in kinds if holds)
    return f"{kind} ({type(module).__name__}{': ' if shapes else ''}{shapes})"
