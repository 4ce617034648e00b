"""What Hypothesis draws: recipes, small frozen dataclasses from which a test builds its tensors, layers and
models.
"""

from strategies.files import DamagedFile, damaged_files
from strategies.layers import AdaptedLayer, LinearRecipe, adapted_layers, linear_recipes, trained_layers
from strategies.lifecycles import (
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
    lifecycles,
)
from strategies.models import (
    AdaptedModel,
    BlockRecipe,
    ModelRecipe,
    NestedRecipe,
    Qwen3Recipe,
    adapted_models,
    trained_models,
)
from strategies.options import options
from strategies.quantised import QuantisedLayer, quantised_layers
from strategies.tensors import DTYPES, WEIGHT_FAMILIES, gaussian, set_device, weight

__all__ = [
    "DTYPES",
    "WEIGHT_FAMILIES",
    "AdaptedLayer",
    "AdaptedModel",
    "Attach",
    "BlockRecipe",
    "Cast",
    "Copy",
    "DamagedFile",
    "Detach",
    "Freeze",
    "Fresh",
    "Hook",
    "Lifecycle",
    "LinearRecipe",
    "Load",
    "Merge",
    "Mode",
    "ModelRecipe",
    "NestedRecipe",
    "QuantisedLayer",
    "Qwen3Recipe",
    "Save",
    "StateDict",
    "Step",
    "Train",
    "adapted_layers",
    "adapted_models",
    "damaged_files",
    "gaussian",
    "lifecycles",
    "linear_recipes",
    "options",
    "quantised_layers",
    "set_device",
    "trained_layers",
    "trained_models",
    "weight",
]
