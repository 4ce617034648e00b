"""Silent failures of scope: an adapted model seen through a part, a whole or a wrapper; and what attach should refuse."""

import lora_lite as ll
from lora_lite import adapter, checkpoint, spec
from properties.mutation.mutant import change, mutant

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
    change(adapter._refuse_non_finite, "if bad:", "if False:"),
    breaks="attach succeeds and the output is NaN",
    models="an SVD cast to half precision unseen",
    applies_to="pissa",
)
mutant(
    "a_variant_of_the_same_name_takes_over",
    change(
        spec.register,
        "(known.__module__, known.__qualname__) != (variant.__module__, variant.__qualname__)",
        "False",
    ),
    breaks="another class answers to the name of a built-in variant",
    models="a registry that overwrites",
    applies_to="lora",
)
mutant(
    "an_init_of_its_own_is_registered",
    change(spec.register, "if variant.__init__ is not Variant.__init__:", "if False:"),
    breaks="a user's variant attaches, trains and saves, and cannot be loaded",
    models="an interface that is told after the fact",
    applies_to="lora",
)
mutant(
    "a_misspelt_first_gradient_is_taken",
    change(
        ll.ParamSpec.__post_init__, "if self.first_gradient not in (None, *get_args(Gradient)):", "if False:"
    ),
    breaks="a declaration that means nothing counts as trainable, with a gradient that some take for zero and some do not",
    models="a string where there are two to choose from",
    applies_to="lora",
)
mutant(
    "a_tensor_stays_as_memory_was",
    change(ll.Variant.reset, "(spec.init or unfilled)(", "(spec.init or zeros)("),
    breaks="a tensor that nothing fills is zero without a word",
    models="an init that was forgotten, in memory that happened to be clean",
    applies_to="lora",
)
mutant(
    "any_sequence_passes_for_a_shape",
    change(ll.ParamSpec.__post_init__, "if not isinstance(self.shape, tuple):", "if False:"),
    breaks="an adapter whose spec has a list for a shape is saved, and its file blamed at load",
    models="two kinds of sequence that are never equal",
    applies_to="lora",
)
mutant(
    "adapters_of_the_whole_are_overlooked_by_a_part",
    change(
        adapter.refuse_strays,
        "own = {layer for",
        "if not hasattr(model, STATE):\n        return\n    own = {layer for",
    ),
    breaks="a part attaches adapters of its own beside those of the whole, which then neither saves nor detaches them",
    models="a check for a nested adapter that only runs where there is one already",
    applies_to="lora",
)
mutant(
    "calibration_data_is_consumed_for_nothing",
    change(adapter._statistics, "if wanted:", "for _ in data:\n        break\n    if wanted:"),
    breaks="a generator of batches arrives at the training loop with its first batch gone",
    models="peeking into an iterator that belongs to the caller",
    applies_to="lora",
)
mutant(
    "detach_leaves_the_adapter_working",
    change(adapter._uninstall, "_take_down(model.get_submodule(name))", "pass"),
    breaks="detach forgets the adapter and leaves it on the layers",
    models="an unload that clears the registry and not the modules",
)
mutant(
    "a_foreign_file_loads_nothing",
    change(
        checkpoint._opened,
        "if HEADER not in metadata:",
        "if HEADER not in metadata:\n"
        '                yield {"adapters": []}, set()\n'
        "                return\n"
        "            if False:",
    ),
    change(checkpoint.load, "if check_base:", 'if not header["adapters"]: return []\n        if check_base:'),
    breaks="load of somebody else's safetensors file returns without an adapter and without an error",
    models="load_state_dict(strict=False) of a file in another format",
    applies_to="lora",
)
mutant(
    "a_truncated_file_loads_nothing",
    change(
        checkpoint._opened,
        "except SafetensorError as error:",
        'except SafetensorError as error:\n        yield {"adapters": []}, set()\n        return',
    ),
    change(checkpoint.load, "if check_base:", 'if not header["adapters"]: return []\n        if check_base:'),
    breaks="load of half a file returns without an adapter and without an error",
    models="a broad except around reading",
    applies_to="lora",
)
mutant(
    "load_casts_to_any_dtype",
    change(checkpoint.load, "if dtype is not None and", "if False and"),
    breaks="load(dtype=torch.int8) rounds every tensor to whole numbers",
    models="a cast without a look at what to",
    applies_to="ia3",
)
