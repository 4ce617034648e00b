"""Silent failures of the small answers that everything else trusts: what is declared, counted, refused or found."""

from lora_lite import adapter, checkpoint, config, linear, parallel, spec, targets
from lora_lite.adapter import Adapter
from lora_lite.checkpoint import _Tensors
from lora_lite.spec import ParamSpec, Variant
from lora_lite.variants import hra
from lora_lite.variants.antipasto import AntiPaSTOConfig
from lora_lite.variants.delora import DeLoRA, DeLoRAConfig
from lora_lite.variants.dora import DoRA
from lora_lite.variants.eva import EVA, EVAConfig
from lora_lite.variants.hra import HRA, HRAConfig
from lora_lite.variants.pissa import PiSSA, PiSSAConfig
from properties.mutation.mutant import change, mutant

SINGULAR = ("pissa", "antipasto", "eva")

# The handle.

mutant(
    "buffers_have_one_name_for_all_layers",
    change(Adapter.named_buffers, 'yield f"{target}.{name}", buffer', "yield name, buffer"),
    breaks="dict(handle.named_buffers()) holds one layer's",
    models="names that are unique in a module and not in a model",
    applies_to="delora",
)
mutant(
    "one_handle_takes_all_adapters_off",
    change(Adapter.detach, "[self] if", "list(adapters_of(self.model)) if"),
    breaks="detaching one of two adapters detaches both",
    models="an unload that knows only the model",
    applies_to="lora",
)
mutant(
    "the_newest_adapter_comes_first",
    change(adapter.adapters_of, "tuple(state.adapters)", "tuple(reversed(state.adapters))"),
    breaks="files and handles are in the reverse order of attaching",
    models="a stack taken for a list",
    applies_to="lora",
)
mutant(
    "what_carries_nothing_is_saved",
    change(
        adapter.attached,
        "if not (adapters := adapters_of(model)):",
        "adapters = adapters_of(model)\n    if False:",
    ),
    breaks="save on a model without an adapter writes an empty file and says nothing",
    models="a checkpoint of nothing, found out at load",
    applies_to="lora",
)
mutant(
    "adapters_are_built_on_the_default_device",
    change(adapter.device_of, "return next(", "return None and next("),
    breaks="the adapter of a layer elsewhere lies on the CPU",
    models="a device that is never asked for",
    applies_to="lora",
)
mutant(
    "a_config_of_another_class_is_taken",
    change(adapter.variant_of, "VARIANTS[name].config_class is not type(config)", "False"),
    breaks="a class that only borrows a variant's name is attached as that variant",
    models="dispatch on a string",
    applies_to="lora",
)

# What a layer is.

mutant(
    "eight_bit_floats_are_plain_weights",
    change(linear._holds_numbers, " and weight.dtype.itemsize > 1", ""),
    breaks="float8 codes are read without their scale",
    models="is_floating_point taken for 'a number'",
    applies_to="pissa",
)
mutant(
    "packed_weights_are_plain",
    change(linear.has_plain_weight, "and weight.shape == (layer.out_features, layer.in_features)", ""),
    breaks="a weight that is stored in another shape counts as the weight itself",
    models="packed or split storage read as a matrix",
    applies_to="pissa",
)
mutant(
    "eight_bit_codes_are_looked_for_in_one_place",
    change(linear._eight_bit, "return own if own is not None else", "return own\n    return"),
    breaks="after the first forward the scales of an 8-bit layer are not found",
    models="state that a library moves at run time",
    applies_to="pissa",
)
mutant(
    "norms_in_half_precision",
    change(linear.at_least_float32, "torch.promote_types(dtype, torch.float32)", "dtype"),
    breaks="sums of squares are taken in the dtype of the adapter",
    models="half precision where it overflows or loses digits",
    # In dora vector_norm adds up in float32 by itself: what is left is the rounding that the output has too. In antipasto and
    # hra torch has no solve in half precision, and says so.
    applies_to="delora",
)
mutant(
    "anything_counts_as_finite",
    change(linear.all_finite, "return math.isfinite(total)", "return True or math.isfinite(total)"),
    breaks="a base with NaN is adapted",
    models="a check that was switched off for speed",
    applies_to="lora",
)
mutant(
    "an_overflowing_sum_counts_as_infinite",
    change(linear.all_finite, " or bool(torch.isfinite(tensor).all())", ""),
    breaks="finite weights whose sum overflows are refused",
    models="a shortcut without its second look",
    applies_to="lora",
)
mutant(
    "the_head_is_a_layer_as_any_other",
    change(targets._output_head, "if model.get_submodule(name) is head", "if False"),
    breaks="without target_names the output head is adapted too",
    models="all-linear without its exception",
    applies_to="lora",
)
mutant(
    "layers_that_nobody_calls_are_adapted",
    change(targets.refuse_uncalled, "if uncalled and", "if False and"),
    breaks="an adapter on MultiheadAttention's out_proj does nothing",
    models="a fused path around the module",
    applies_to="lora",
)
mutant(
    "sharded_tensors_go_unseen",
    change(parallel.is_sharded, 'hasattr(tensor, "full_tensor")', "False"),
    breaks="every process saves its own share",
    models="a check for an attribute that was renamed",
    applies_to="lora",
)

# What is declared.

mutant(
    "tensors_that_start_without_a_gradient_are_frozen",
    change(ParamSpec.trainable.fget, "is not None", '== "nonzero"'),  # type: ignore[attr-defined]  # a property
    breaks="A is a buffer and never learns",
    models="trainability read off the first gradient",
    applies_to=("lora", "dora", "eva"),
)
mutant(
    "the_scale_is_one_whatever_the_config",
    change(Variant.__init__, "self.scale = config.scale", "self.scale = 1.0"),
    breaks="alpha has no effect",
    models="a default that is never overwritten",
    applies_to=("lora", "dora", "eva", "pissa"),
)
mutant(
    "dora_is_declared_exact",
    change(DoRA.identity, 'return "rounding"', 'return "exact"'),
    breaks="the identity is declared bit for bit and is not",
    models="a promise copied from another variant",
    applies_to="dora",
)
mutant(
    "delora_is_declared_exact",
    change(DeLoRA.identity, 'return "rounding" if', 'return "exact" if'),
    breaks="the identity is declared bit for bit and is not",
    models="a promise copied from another variant",
    applies_to="delora",
)
mutant(
    "pissa_is_declared_exact",
    change(PiSSA.identity, 'return "rounding"', 'return "exact"'),
    breaks="two terms that cancel to rounding are declared to cancel to the bit",
    models="a declaration taken from lora",
    applies_to="pissa",
)
mutant(
    "what_is_exact_is_declared_to_rounding",
    change(Variant.identity, 'return "exact"', 'return "rounding"'),
    breaks="an adapter that must change nothing may change a little",
    models="a claim weakened until its test is green",
    applies_to=("lora", "ia3", "ia3_ff", "eva", "antipasto"),
)
mutant(
    "every_first_step_may_be_a_jump",
    change(Variant.continuous, "return True", "return False"),
    breaks="a jump is declared that is not there, and no planted target has to be recovered",
    models="an exception for one variant that became the rule",
    applies_to=("lora", "dora", "hra"),
)

# What cannot work, and is not refused.

mutant(
    "more_ranks_than_the_layer_has",
    change(spec.checked_rank, "config.r > largest", "False"),
    breaks="factors with more rows than the layer has directions",
    models="a limit checked nowhere",
    applies_to=SINGULAR,
)
mutant(
    "true_is_a_rank",
    change(config._is_int, " and not isinstance(value, bool)", ""),
    breaks="r=True is r = 1",
    models="a flag passed in the place of a number",
    applies_to="lora",
)
mutant(
    "any_word_is_a_choice",
    change(config.AdapterConfig.__post_init__, "getattr(self, name) in choices", "True"),
    breaks="a misspelt option is taken for the default's opposite",
    models="an else branch for all that is not known",
    applies_to=("delora", "antipasto"),
)
mutant(
    "rotations_beyond_half_a_turn",
    change(AntiPaSTOConfig.__post_init__, "bounded = ", "bounded = True or "),
    breaks="max_skew of π or more, or none, gives a bound that means nothing",
    models="a range that is only in the docstring",
    applies_to="antipasto",
)
mutant(
    "an_adapter_that_can_never_learn",
    change(DeLoRAConfig.__post_init__, "learns = ", "learns = True or "),
    breaks="λ = 0 and B = 0: no gradient ever",
    models="two harmless settings that are not so together",
    applies_to="delora",
)
mutant(
    "a_gradient_that_overflows",
    change(DeLoRAConfig.__post_init__, "representable = ", "representable = True or "),
    breaks="the first gradient in float16 is infinite",
    models="a dtype that nobody tried",
    applies_to="delora",
)
mutant(
    "a_line_has_directions",
    change(DeLoRA.check, "shape.d_in == shape.d_out == 1", "False"),
    breaks="an adapter on a layer 1 → 1 learns nothing but λ",
    models="the smallest shape left out of the tests",
    applies_to="delora",
)
mutant(
    "a_line_is_reflected",
    change(HRA.check, "shape.d_in < 2", "False"),
    breaks="reflections of a line have no gradient",
    models="the smallest shape left out of the tests",
    applies_to="hra",
)
mutant(
    "fewer_than_no_iterations",
    change(PiSSAConfig.__post_init__, "whole = ", "whole = True or "),
    breaks="niter=-1 or 2.5 is taken",
    models="a range that is only in the docstring",
    applies_to="pissa",
)
mutant(
    "rho_below_one",
    change(EVAConfig.__post_init__, "number = ", "number = True or "),
    breaks="rho = 0.5 leaves layers with half their ranks",
    models="a range that is only in the docstring",
    applies_to="eva",
)
mutant(
    "rho_without_end",
    change(EVAConfig.__post_init__, "self.r * self.rho <= LARGEST_RANK", "True"),
    breaks="rho = 1e308 ends in an OverflowError when the ranks are shared out",
    models="a range with one end",
    applies_to="eva",
)
mutant(
    "a_scale_may_vanish",
    change(config.AdapterConfig.__post_init__, "smallest <= self.scale", "0 < self.scale"),
    breaks="alpha = 1e-60 is taken, and its gradients are zero for ever",
    models="a range checked in float64 and used in float32",
    applies_to=("lora", "dora"),
)
mutant(
    "no_setting_is_refused",
    change(config.AdapterConfig.require, "if not holds:", "if False:"),
    breaks="what cannot work is attached, and fails later or never",
    models="validation switched off",
    applies_to=("lora", "ia3"),
)
mutant(
    "numbers_without_end",
    change(config.is_number, " and abs(value) <= sys.float_info.max", ""),
    breaks="alpha = 10**400 ends in an OverflowError from the inside",
    models="Python's whole numbers taken for floats",
    applies_to="lora",
)
mutant(
    "true_is_a_number",
    change(config.is_number, " and not isinstance(value, bool)", ""),
    breaks="a flag in the wrong place is taken for the number 1",
    models="bool is a subclass of int",
    applies_to="lora",
)
mutant(
    "an_odd_number_of_reflections",
    change(HRAConfig.__post_init__, "self.r is not None and self.r % 2 == 0", "True"),
    change(
        hra.paired_kaiming_uniform,
        "repeat_interleave(2, dim=0)",
        "repeat_interleave(2, dim=0)[: len(tensor)]",
    ),
    breaks="one reflection has no partner, and init is no identity",
    models="a condition of the paper left to the user",
    applies_to="hra",
)
mutant(
    "more_components_than_outputs",
    change(EVA.calibrator, "min(linear_sizes(layer))", "max(linear_sizes(layer))"),
    breaks="a narrow layer gets more ranks than it has outputs",
    models="the larger of two widths taken for the limit",
    applies_to="eva",
)

# Files.

mutant(
    "the_fingerprint_tells_no_shape",
    change(checkpoint._described, " {tuple(tensor.shape)}", ""),
    breaks="the message about another base shows two digests and no reason",
    models="an error message nobody can act on",
    applies_to="lora",
)
mutant(
    "a_header_keeps_three_digits",
    change(
        config.AdapterConfig.to_json,
        "else value for name",
        'else float(f"{value:.3g}") if isinstance(value, float) else value for name',
    ),
    breaks="a loaded handle tells another alpha, and a loaded bound (max_skew) is another",
    models="settings formatted for people and read back by programs",
    applies_to=("lora", "antipasto"),
)
mutant(
    "a_layers_alpha_keeps_three_digits",
    change(
        checkpoint.save, "layer.config.alpha}", 'layer.config.alpha and float(f"{layer.config.alpha:.3g}")}'
    ),
    breaks="what is loaded has a scale of its own",
    models="settings formatted for people and read back by programs",
    applies_to=("lora", "eva"),
)
mutant(
    "quantisation_scales_are_not_part_of_the_base",
    change(checkpoint._scales, 'last == "weight"', "False"),
    breaks="8-bit codes with other scales pass for the same base",
    models="half of a number hashed",
    applies_to="lora",
)
mutant(
    "two_adapters_for_one_layer_in_a_file",
    change(checkpoint._refuse_repeated, "if repeated:", "if False:"),
    breaks="the second adapter of a layer takes the place of the first",
    models="a merge of two files by hand",
    applies_to="lora",
)
mutant(
    "loaded_tensors_are_views_of_the_file",
    change(_Tensors.take, ".clone()", ""),
    breaks="overwriting the file changes, or kills, the running adapter",
    models="memory mapping without a copy",
    applies_to="lora",
)
mutant(
    "a_damaged_header_blames_the_user",
    change(checkpoint._blaming_the_header, "except ConfigError", "except MemoryError"),
    breaks="a file's impossible setting is reported as a mistake in the caller's config",
    models="an exception that passes through a layer",
    applies_to="lora",
)
mutant(
    "adapters_are_loaded_onto_anything",
    change(checkpoint._layer, "if layer is None or not is_linear(layer):", "if layer is None:"),
    breaks="a file that names a normalisation or a container ends in an error from the inside",
    models="a name looked up and its type not",
    applies_to="lora",
)
mutant(
    "a_header_is_taken_as_it_is",
    change(checkpoint._require, "if not holds:", "if False:"),
    breaks="what a header lacks is found out somewhere deeper",
    models="validation switched off",
    applies_to="lora",
)
