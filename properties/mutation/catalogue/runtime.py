"""Silent failures of the runtime: hooks, flags, modes, dtypes, and what two adapters do to each other."""

from lora_lite import adapter, errors, linear
from lora_lite.adapter import Adapter
from properties.mutation.mutant import change, mutant

OUT, IN = adapter._adapt_output, adapter._adapt_input
HOOK = "layer.register_forward_hook(_adapt_output, with_kwargs=True)"
PRE_HOOK = "layer.register_forward_pre_hook(_adapt_input, with_kwargs=True)"
BUILD = "modules[name] = variant(linear_shape(layer), layer_config, device=device_of(layer))"

mutant(
    "output_hook_does_nothing",
    change(OUT, "return adapted.to(y.dtype)", "return y"),
    breaks="the adapter computes, and nobody takes the result",
    models="a forward hook without a return",
    applies_to="lora",
)
mutant(
    "input_hook_does_nothing",
    change(IN, "return (adapted, *args[1:]), kwargs", "return args, kwargs"),
    breaks="the adapted input is dropped",
    models="a pre-hook that returns what it was given",
    applies_to=("hra", "ia3_ff"),
)
mutant(
    "keyword_input_not_adapted",
    change(IN, "{name: adapted if value is x else value for name, value in kwargs.items()}", "kwargs"),
    breaks="layer(input=x) goes past the adapter",
    models="a pre-hook that looks at positional arguments alone",
    applies_to=("hra", "ia3_ff"),
)
mutant(
    "keyword_output_not_adapted",
    change(
        OUT,
        "x = first_argument(layer, args, kwargs)",
        "if not args: return y\n    x = first_argument(layer, args, kwargs)",
    ),
    breaks="layer(input=x) goes past the adapter",
    models="a hook that looks at positional arguments alone",
    applies_to="lora",
)
mutant(
    "further_arguments_dropped",
    change(IN, "(adapted, *args[1:])", "(adapted,)"),
    breaks="a layer that takes more than x gets x alone",
    models="a pre-hook's return value that replaces all arguments",
    applies_to="hra",
)
mutant(
    "output_hook_registered_twice",
    change(adapter._hang, f"hook = {HOOK}", f"{HOOK}; hook = {HOOK}"),
    breaks="the update is added twice, and one hook stays after detach",
    models="a hook registered in two places",
    applies_to="lora",
)
mutant(
    "input_hook_registered_twice",
    change(adapter._hang, f"hook = {PRE_HOOK}", f"{PRE_HOOK}; hook = {PRE_HOOK}"),
    breaks="the input is adapted twice, and one hook stays after detach",
    models="a hook registered in two places",
    applies_to="hra",
)
mutant(
    "hook_sees_the_layer_it_was_made_on",
    change(
        adapter._hang,
        HOOK,
        "layer.register_forward_hook(lambda _, args, kwargs, y: _adapt_output(layer, args, kwargs, y), with_kwargs=True)",
    ),
    breaks="a deep copy of the model uses the original's adapter",
    models="a closure over the layer in a hook",
    applies_to="lora",
)
mutant(
    "pre_hook_sees_the_layer_it_was_made_on",
    change(
        adapter._hang,
        PRE_HOOK,
        "layer.register_forward_pre_hook(lambda _, args, kwargs: _adapt_input(layer, args, kwargs), with_kwargs=True)",
    ),
    breaks="a deep copy of the model uses the original's adapter",
    models="a closure over the layer in a hook",
    applies_to="hra",
)
mutant(
    "hook_left_after_detach",
    change(
        adapter._take_down,
        "hook.remove()",
        "hook.remove(); layer.register_forward_hook(lambda layer, args, y: y)",
    ),
    breaks="a detached layer still runs a hook",
    models="removing another hook than the one registered",
    applies_to="lora",
)
mutant(
    "adapter_module_left_after_detach",
    change(adapter._take_down, "layer._modules.pop(CHILD, None)", "layer._modules.get(CHILD)"),
    breaks="a detached layer keeps the adapter's parameters",
    models="hooks removed, modules forgotten",
    applies_to="lora",
)
mutant(
    "output_in_the_adapters_dtype",
    change(OUT, "adapted.to(y.dtype)", "adapted.to(next(layer.lora_lite.parameters()).dtype)"),
    breaks="a bfloat16 layer gives float32",
    models="a cast back that was forgotten",
    applies_to="lora",
)
mutant(
    "output_rounded_to_bfloat16",
    change(OUT, "return adapted.to(y.dtype)", "return adapted.to(torch.bfloat16).to(y.dtype)"),
    breaks="the output of a float32 layer has eight bits left",
    models="a cast to a training dtype on the way",
    applies_to="lora",
)
mutant(
    "adapter_in_the_bases_dtype",
    change(adapter.attach, BUILD, f"{BUILD}.to(layer.weight.dtype)"),
    breaks="config.dtype is ignored",
    models="tensors created like the base weight",
    applies_to="lora",
)
mutant(
    "adapter_on_the_default_device",
    change(adapter.attach, "device=device_of(layer)", "device=None"),
    breaks="the adapter of a layer elsewhere lies on the CPU",
    models="torch.empty without a device",
    applies_to="lora",
)
mutant(
    "autocast_reaches_the_adapter",
    change(adapter._without_autocast, "enabled=False", "enabled=True"),
    breaks="under autocast a float32 adapter computes in bfloat16",
    models="a hook that runs in the caller's autocast",
    applies_to=("lora", "hra"),
)
mutant(
    "autocast_of_another_device",
    change(
        adapter._without_autocast,
        "torch.is_autocast_enabled(x.device.type)",
        'torch.is_autocast_enabled("cuda")',
    ),
    breaks="autocast on the CPU is not noticed",
    models="the state of one device read for all",
    applies_to=("lora", "hra"),
)
mutant(
    "base_not_frozen",
    change(adapter.install, "base[name].requires_grad_(False)", "pass"),
    breaks="the base trains along",
    models="freezing left to the user, who does not",
    applies_to="lora",
)
mutant(
    "biases_not_frozen",
    change(
        adapter.install,
        "base[name].requires_grad_(False)",
        'base[name].requires_grad_(name.endswith("bias"))',
    ),
    breaks="the base's biases train along",
    models='bias="all" by accident',
    applies_to="lora",
)
mutant(
    "adapters_frozen_with_the_base",
    change(adapter.install, "base[name].requires_grad_(False)", "model.requires_grad_(False)"),
    breaks="nothing trains",
    models="model.requires_grad_(False) after the adapter is on",
    applies_to="lora",
)
mutant(
    "second_attach_freezes_the_first",
    change(adapter.install, "base = dict(base_parameters(model))", "base = dict(model.named_parameters())"),
    breaks="the first adapter stops to train when a second comes",
    models="everything that is there counts as base",
    applies_to="lora",
)
mutant(
    "names_with_lora_are_no_base",
    change(
        adapter.base_parameters,
        "if name not in own:",
        'if "lora_" not in name:',
    ),
    breaks="a base module called lora_mlp trains along",
    models="adapters told from the base by a piece of their name",
    applies_to="lora",
)
mutant(
    "flags_not_restored",
    change(adapter._uninstall, "parameter.requires_grad_(True)", "pass"),
    breaks="after detach the base stays frozen",
    models="a flag changed and never given back",
    applies_to="lora",
)
mutant(
    "all_flags_set_on_detach",
    change(adapter._uninstall, "if name in state.frozen:", "if True:"),
    breaks="what the user had frozen trains after detach",
    models="requires_grad_(True) for all",
    applies_to="lora",
)
mutant(
    "flags_restored_too_early",
    change(
        adapter._uninstall,
        "    if not state.adapters:\n        for name, parameter in model.named_parameters():\n"
        "            if name in state.frozen:\n                parameter.requires_grad_(True)\n        delattr",
        "    for name, parameter in model.named_parameters():\n"
        "        if name in state.frozen:\n            parameter.requires_grad_(True)\n"
        "    if not state.adapters:\n        delattr",
    ),
    breaks="the base trains along once the first of two adapters is gone",
    models="no count of who needs the base frozen",
    applies_to="lora",
)
mutant(
    "second_attach_forgets_the_flags",
    change(adapter.install, "state.frozen |= frozen", "state.frozen = frozen"),
    breaks="after two attaches and a detach the base stays frozen",
    models="what the second attach found overwrites what the first did",
    applies_to="lora",
)
mutant(
    "second_attach_forgets_the_first",
    change(adapter.install, "state.adapters += handles", "state.adapters = handles"),
    breaks="the model knows its newest adapter alone",
    models="one slot where a list is needed",
    applies_to="lora",
)
mutant(
    "one_detach_takes_all",
    change(adapter._uninstall, "for adapter in adapters:", "for adapter in list(state.adapters):"),
    breaks="handle.detach takes the other adapters off as well",
    models="unload without a name",
    applies_to="lora",
)
mutant(
    "detach_takes_the_newest",
    change(adapter.detach, "list(attached(model))", "list(attached(model))[-1:]"),
    breaks="detach(model) leaves older adapters on",
    models="a stack popped once",
    applies_to="lora",
)
mutant(
    "detach_of_nothing_accepted",
    change(
        adapter.detach, "list(attached(model)))", "list(adapters_of(model))) if adapters_of(model) else None"
    ),
    breaks="detach on a plain model, or on the wrong one, says nothing",
    models="an operation that silently does nothing",
    applies_to="lora",
)
mutant(
    "layers_of_a_shape_share_an_adapter",
    change(
        adapter.attach,
        BUILD,
        "modules[name] = next((m for m in modules.values() if m.shape == linear_shape(layer)), None) or "
        "variant(linear_shape(layer), layer_config, device=device_of(layer))",
    ),
    breaks="layers of one shape train the same parameters",
    models="a cache keyed by shape",
    applies_to="lora",
)
mutant(
    "layers_share_a_parameter",
    change(
        adapter.install,
        "state.adapters += handles",
        "state.adapters += handles; own = [m for _, ms in adapters for m in ms.values()]; "
        '[m.register_parameter("B", o.B) for o, m in zip(own, own[1:]) if o.B.shape == m.B.shape]',
    ),
    breaks="B is one tensor in neighbouring layers",
    models="a parameter created outside the loop",
    applies_to="lora",
)
mutant(
    "off_in_eval_mode",
    change(OUT, "    x = first", "    if not layer.training: return y\n    x = first"),
    breaks="an adapted model evaluates as its base",
    models="eval mode taken for merged",
    applies_to="lora",
)
mutant(
    "input_untouched_in_eval_mode",
    change(IN, "    x = first", "    if not layer.training: return args, kwargs\n    x = first"),
    breaks="an adapted model evaluates as its base",
    models="eval mode taken for merged",
    applies_to="hra",
)
mutant(
    "off_without_gradients",
    change(OUT, "    x = first", "    if not torch.is_grad_enabled(): return y\n    x = first"),
    breaks="under no_grad the model is its base",
    models="a shortcut for inference",
    applies_to="lora",
)
mutant(
    "off_in_inference_mode",
    change(OUT, "    x = first", "    if torch.is_inference_mode_enabled(): return y\n    x = first"),
    breaks="in inference mode the model is its base",
    models="a shortcut for inference",
    applies_to="lora",
)
mutant(
    "adapter_ignores_the_layers_mode",
    change(adapter._hang, "module.train(layer.training)", "pass"),
    breaks="the adapter of a layer in eval mode is in train mode",
    models="a child added after model.eval()",
    applies_to="lora",
)
mutant(
    "adapter_gradients_stop_at_the_input",
    change(OUT, "adapt_output, x, y, layer)", "adapt_output, x.detach(), y, layer)"),
    breaks="the update passes no gradient to the layers before",
    models="a detach too many",
    applies_to="lora",
)
mutant(
    "parameters_attached_frozen",
    change(
        adapter._hang, "module.train(layer.training)", "module.train(layer.training).requires_grad_(False)"
    ),
    breaks="the optimiser gets parameters that never move",
    models="buffers where parameters were meant",
    applies_to="lora",
)
mutant(
    "failed_attach_leaves_hooks",
    change(adapter.install, "_take_down(layer)", "pass"),
    breaks="after a failure half the model carries an adapter",
    models="no way back",
    applies_to=("lora", "hra"),
)
mutant(
    "failed_attach_leaves_the_last_hook",
    change(adapter.install, "for layer in hung:", "for layer in hung[1:]:"),
    breaks="after a failure one layer carries an adapter",
    models="a roll-back off by one",
    applies_to="lora",
)
mutant(
    "failed_attach_thaws_the_base",
    change(adapter.install, "base[name].requires_grad_(True)", "model.requires_grad_(True)"),
    breaks="after a failure what the user had frozen trains",
    models="requires_grad_(True) for all",
    applies_to="lora",
)
mutant(
    "errors_without_a_layer",
    change(errors.naming, 'error.args = (f"{name}: {error}",)', "pass"),
    breaks="an error does not say which layer",
    models="a message written where the name is not known",
    applies_to="dora",
)
mutant(
    "base_with_nan_accepted",
    change(adapter.refuse_non_finite_base, "if not all_finite(tensor):", "if False:"),
    breaks="a NaN in W becomes an adapter full of NaN",
    models="an unchecked base",
    applies_to="dora",
)
mutant(
    "integer_codes_read_as_weights",
    change(
        linear.read_weight,
        "if isinstance(weight, Tensor) and _holds_numbers(weight) and",
        "if isinstance(weight, Tensor) and",
    ),
    breaks="int8 codes are taken for weights, a hundred times too large",
    models="layer.weight.float() on a quantised layer",
    applies_to=("dora", "delora"),
)
mutant(
    "handle_lists_names_without_layers",
    change(Adapter.named_parameters, 'yield f"{target}.{name}", parameter', "yield name, parameter"),
    breaks="dict(handle.named_parameters()) holds one layer's",
    models="names that are unique in a module and not in a model",
    applies_to="lora",
)
mutant(
    "handle_lists_the_base_too",
    change(
        Adapter.parameters,
        "(parameter for _, parameter in self.named_parameters())",
        "self.model.parameters()",
    ),
    breaks="the optimiser gets, and decays, the base",
    models="model.parameters() for the adapter's",
    applies_to="lora",
)
mutant(
    "handle_answers_after_detach",
    change(
        Adapter.layers,
        'raise NotAttachedError(f"This {self.config.variant} adapter is no longer attached. Attach anew.")',
        "return {}",
    ),
    breaks="a detached handle lists no parameters and says nothing",
    models="an empty optimiser",
    applies_to="lora",
)
