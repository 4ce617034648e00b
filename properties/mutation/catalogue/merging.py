"""Silent failures of merge: what is folded is not what was computed."""

from lora_lite import merging
from properties.mutation.mutant import change, mutant

mutant(
    "merge_adds_the_update_twice",
    change(
        merging._merged,
        "weight = (twin(basis) - bias).mT",
        "weight = 2 * (twin(basis) - bias).mT - layer.weight",
    ),
    breaks="the update is folded in twice",
    models="merge adds twice and unmerge subtracts twice: only an oracle sees it",
    applies_to=("lora", "hra"),
)
mutant(
    "merge_drops_the_adapter",
    change(merging.merge, "layer.weight.copy_(weight)", "pass"),
    breaks="the adapter is taken off and its effect with it",
    models="a merge that is a detach",
    applies_to=("lora", "pissa"),
)
mutant(
    "merge_transposes_square_layers",
    change(
        merging._merged,
        "(twin(basis) - bias).mT",
        "(twin(basis) - bias) if layer.in_features == layer.out_features else (twin(basis) - bias).mT",
    ),
    breaks="the weight of a square layer is folded in transposed",
    models="a transpose that shapes hide",
    applies_to=("lora", "antipasto"),
)
mutant(
    "merge_leaves_the_bias",
    change(merging._merged, "None if layer.bias is None else bias[0]", "None"),
    breaks="the gate on the bias is lost",
    models="a merge of weights alone",
    applies_to="ia3",
)
mutant(
    "merge_counts_the_bias_into_the_weight",
    change(merging._merged, "(twin(basis) - bias).mT", "twin(basis).mT"),
    breaks="every column of the merged weight holds the bias too",
    models="reading a weight off a basis without taking the offset away",
    applies_to=("lora", "dora"),
)
mutant(
    "merge_rounds_to_bfloat16",
    change(merging.merge, "layer.weight.copy_(weight)", "layer.weight.copy_(weight.bfloat16())"),
    breaks="the merged weight loses its low bits",
    models="a merge in half precision",
    applies_to=("lora", "delora"),
)
mutant(
    "merge_takes_one_adapter",
    change(merging.merge, "for name in adapter.targets:", "for name in adapter.targets[:1]:"),
    breaks="of several layers one is merged and the others lose their adapter",
    models="a loop that returns early",
    applies_to="lora",
)
mutant(
    "merge_leaves_the_hooks",
    change(merging.merge, "detach(model)\n", "pass\n"),
    breaks="the adapter is folded in and still attached: its effect counts twice",
    models="a merge that forgets to disable the adapter",
    applies_to=("lora", "ia3_ff"),
)
mutant(
    "merge_writes_into_tied_weights",
    change(merging._refuse_unmergeable, "if sharing:", "if False:"),
    breaks="the embedding changes with the head",
    models="tied weights that a merge does not know of",
    applies_to="lora",
)
mutant(
    "merge_folds_the_forward_of_a_subclass_in",
    change(merging._refuse_unmergeable, "type(layer).forward is not nn.Linear.forward or ", ""),
    breaks="what a subclass does after x Wᵀ + b is folded in, and done again",
    models="isinstance where the type's own forward matters",
    applies_to="lora",
)
mutant(
    "merge_folds_a_foreign_hook_in",
    change(merging._refuse_unmergeable, "or hooks > 1", ""),
    breaks="what another hook does is folded in, and done again",
    models="a twin that runs with everything the layer carries",
    applies_to="lora",
)
mutant(
    "merge_writes_into_a_parametrised_weight",
    change(merging._refuse_unmergeable, 'or "weight" not in layer._parameters', ""),
    breaks="the merged weight goes to a temporary, and the adapter is gone",
    models="weight_norm and its like",
    applies_to="lora",
)
mutant(
    "merge_knows_tied_weights_by_identity",
    change(
        merging._refuse_unmergeable,
        "parameter.untyped_storage().data_ptr() in own",
        "parameter is layer.weight",
    ),
    breaks="a shared bias or storage goes unnoticed",
    models="tying looked for in one place only",
    applies_to="ia3",
)
mutant(
    "merge_writes_what_is_not_finite",
    change(merging._merged, "if not (weight.isfinite().all() and bias.isfinite().all()):", "if False:"),
    breaks="NaN or Inf lands in the base, for good",
    models="an overflow in the cast to half precision",
    applies_to="ia3",
)
mutant(
    "merge_loses_a_constant",
    change(merging._merged, "if layer.bias is None and bias.any():", "if False:"),
    breaks="an adapter's constant is dropped where the layer has no bias",
    models="a merge of weights alone",
    applies_to="lora",
)
mutant(
    "merge_changes_the_dtype",
    change(
        merging._merged, "weight, bias = weight.to(layer.weight.dtype), bias.to(layer.weight.dtype)", "pass"
    ),
    change(merging.merge, "layer.weight.copy_(weight)", "layer.weight.data = weight"),
    breaks="the merged layer is float64",
    models="a result assigned and not copied",
    applies_to="lora",
)
