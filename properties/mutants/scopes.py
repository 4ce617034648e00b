"""Silent failures of scope: an adapted model seen through a part, a whole or a wrapper; and what attach should refuse."""

from lora_lite import adapter, spec
from properties.mutants.mutant import change, mutant

mutant(
    "adapters_of_another_module_are_overlooked",
    change(adapter.refuse_strays, "if strays:", "if False:"),
    breaks="adapters attached through a part of the model are neither saved, merged nor detached with it",
    models="state kept on the root and looked for nowhere else",
    applies_to="lora",
)
mutant(
    "a_compiled_wrapper_is_taken_for_the_model",
    change(adapter.unwrapped, "isinstance(inner, nn.Module)", "False"),
    breaks="names carry the wrapper's prefix, and detach leaves the base frozen",
    models="torch.compile's _orig_mod in names",
    applies_to="lora",
)
mutant(
    "initial_values_may_overflow",
    change(adapter._refuse_overflow, "if not all(", "if False and not all("),
    breaks="attach succeeds and the output is NaN",
    models="an SVD cast to half precision unseen",
    applies_to="pissa",
)
mutant(
    "a_variant_of_the_same_name_takes_over",
    change(spec.register, "(known.__module__, known.__qualname__) != (variant.__module__, variant.__qualname__)", "False"),
    breaks="another class answers to the name of a built-in variant",
    models="a registry that overwrites",
    applies_to="lora",
)
