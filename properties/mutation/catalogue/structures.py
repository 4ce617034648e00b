"""Silent failures on models as they are built and run in the field, and of configs that are changed too late."""

from lora_lite import adapter, calibration, linear
from lora_lite.adapter import Adapter
from lora_lite.variants import low_rank
from lora_lite.variants.lora import LoRA
from properties.mutation.mutant import change, mutant

OUT, IN = adapter._adapt_output, adapter._adapt_input
REACHED = 'adapter.__dict__["reached"] = True'

mutant(
    "a_changed_config_changes_the_adapter",
    change(adapter.attach, "config = replace(config)", "pass"),
    breaks="what is done to a config object after attach reaches the adapter and its file",
    models="a shared mutable default",
    applies_to=("lora", "antipasto"),
)
mutant(
    "no_layer_is_ever_dead",
    change(Adapter.dead, "if not layer.reached", "if False"),
    breaks="an adapter on a layer that never runs goes unreported",
    models="a silent no-op",
    applies_to="lora",
)
mutant(
    "all_layers_live_where_one_does",
    change(
        Adapter.dead, "if not layer.reached", "if not any(other.reached for other in self.layers().values())"
    ),
    breaks="an adapter on a layer that never runs goes unreported beside others that do",
    models="one flag for all",
    applies_to="lora",
)
mutant(
    "input_adapters_are_always_dead",
    change(IN, REACHED, "pass"),
    breaks="layers that work are reported as dead",
    models="one of two hooks forgotten",
    applies_to="hra",
)
mutant(
    "a_handle_is_taken_for_a_model",
    change(adapter.unwrapped, "if not isinstance(model, nn.Module):", "if False:"),
    breaks="ll.detach(handle) ends in an AttributeError from the inside",
    models="a type that nobody looked at",
    applies_to="lora",
)
mutant(
    "off_while_a_checkpoint_is_recomputed",
    change(OUT, "    x = first", "    if torch._C._current_graph_task_id() != -1: return y\n    x = first"),
    breaks="under gradient checkpointing the gradients are those of the base",
    models="a context that is not there any more in the backward pass",
    applies_to="lora",
)
mutant(
    "parameters_cached_at_the_first_forward",
    change(LoRA.adapt_output, "self.B", 'self.__dict__.setdefault("kept", self.B)'),
    breaks="torch.func.functional_call runs with the model's own parameters",
    models="a lookup saved on the hot path",
    applies_to="lora",
)
mutant(
    "tokens_are_centred",
    change(
        low_rank.add_low_rank,
        "F.linear(x.to(A.dtype), A)",
        "F.linear(x.to(A.dtype) - (x.to(A.dtype).reshape(-1, x.shape[-1]).mean(0) if x.numel() else 0), A)",
    ),
    breaks="what the adapter adds for a token depends on the others of its batch",
    models="a normalisation over the wrong axis",
    applies_to=("lora", "dora"),
)
mutant(
    "rows_read_as_if_contiguous",
    change(
        low_rank.add_low_rank,
        "F.linear(x.to(A.dtype), A)",
        "F.linear(x.to(A.dtype).as_strided(x.shape, torch.empty(x.shape).stride()), A)",
    ),
    breaks="a transposed or expanded input is read in another order",
    models="a pointer handed to a kernel without its strides",
    applies_to=("lora", "dora"),
)
mutant(
    "a_keyword_has_one_name",
    change(
        calibration.first_argument,
        "next(iter(kwargs if len(kwargs) == 1 else inspect.signature(layer.forward).parameters))",
        'next(iter(kwargs)) if len(kwargs) == 1 else "input"',
    ),
    breaks="a layer that calls its input otherwise fails once it is adapted",
    models="nn.Linear's own signature taken for everyone's",
    applies_to=("lora", "hra"),
)
mutant(
    "the_first_keyword_is_the_input",
    change(
        calibration.first_argument,
        "kwargs if len(kwargs) == 1 else inspect.signature(layer.forward).parameters",
        "kwargs",
    ),
    breaks="the adapter reads whichever argument was named first",
    models="an order that Python keeps and no caller promises",
    applies_to=("lora", "hra"),
)
mutant(
    "lora_runs_on_numbers_alone",
    change(adapter._without_autocast, "x.is_meta or ", ""),
    breaks="an adapted model does not run on the meta device, where shapes are worked out",
    models="a question that this device cannot answer",
    applies_to="lora",
)
mutant(
    "a_lazy_layer_is_adapted",
    change(adapter.attachable, "if is_lazy(parameter):", "if False:"),
    breaks="attach on a layer without a shape ends in an error from the inside",
    models="in_features = 0 taken for a width",
    applies_to="lora",
)
mutant(
    "a_flag_is_taken_for_a_bias",
    change(linear.read_bias, "bias is None or isinstance(bias, Tensor)", "True"),
    breaks="bias = True is taken off the output as a one",
    models="truth and one are the same number",
    applies_to="dora",
)
mutant(
    "lora_does_not_look_at_the_base",
    change(adapter._base_numbers, "if read or has_plain_weight(layer):", "if read:"),
    breaks="NaN in W goes unreported by variants that do not read it",
    models="a check where the number is used and nowhere else",
    applies_to=("lora", "hra"),
)
mutant(
    "a_bias_may_be_nan",
    change(adapter._base_numbers, "bias.dtype.is_floating_point:", "False:"),
    breaks="NaN in a bias goes unreported",
    models="a check of weights alone",
    applies_to="lora",
)
mutant(
    "outputs_are_centred_on_the_first_batch",
    change(
        OUT,
        "return adapted.to(y.dtype)",
        "now = x.detach().double().nan_to_num().sum()\n"
        '    return (adapted + (now - adapter.__dict__.setdefault("first", now)).to(adapted.dtype)).to(y.dtype)',
    ),
    breaks="a sum measured on the first batch stays, and shifts the outputs of all later ones",
    models="statistics gathered lazily on the first forward, and saved nowhere",
    applies_to="lora",
)
mutant(
    "inputs_are_scaled_by_the_first_batch",
    change(
        IN,
        "if args:",
        "size = float(x.detach().abs().sum())\n"
        '    adapted = adapted * (adapter.__dict__.setdefault("size", size) / size if size else 1)\n'
        "    if args:",
    ),
    breaks="inputs are normalised to the size of the first batch",
    models="statistics gathered lazily on the first forward, and saved nowhere",
    applies_to="hra",
)
