"""Silent failures that need a history: a second adapter, a copy, what the user froze, what comes after save, load or merge."""

from lora_lite import adapter, checkpoint, merging
from lora_lite.adapter import Adapter
from properties.mutation.mutant import change, mutant

mutant(
    "detach_forgets_what_the_user_thawed",
    change(
        adapter._uninstall,
        "if name in state.frozen:\n                parameter.requires_grad_(True)",
        "parameter.requires_grad_(name in state.frozen)",
    ),
    breaks="a base parameter that the user thawed meanwhile is frozen again by detach",
    models="flags put back as a snapshot, over what has happened since",
    applies_to="lora",
    history=True,
)
mutant(
    "detach_keeps_old_flags_for_the_next_adapter",
    change(adapter._uninstall, "delattr(model, STATE)", "pass"),
    breaks="what the user froze between two adapters trains after the second one's detach",
    models="state that outlives what it is about",
    applies_to="lora",
    history=True,
)
mutant(
    "attach_freezes_a_parameter_once",
    change(
        adapter.install,
        "if parameter.requires_grad}",
        "if parameter.requires_grad and name not in state.frozen}",
    ),
    breaks="a base parameter that was thawed between two attaches trains along",
    models="a flag believed from the books and not looked up",
    applies_to="lora",
    history=True,
)
mutant(
    "detach_strikes_the_newest_off_the_list",
    change(adapter._uninstall, "state.adapters.remove(adapter)", "state.adapters.pop()"),
    breaks="the first of two adapters is taken off, and the second one's handle ends",
    models="a stack where any may go first",
    applies_to="lora",
    history=True,
)
mutant(
    "detach_clears_every_hook_of_its_layers",
    change(
        adapter._take_down,
        "hook.remove()",
        "hook.remove(); layer._forward_hooks.clear(); layer._forward_pre_hooks.clear()",
    ),
    breaks="hooks that the user hung on a layer are gone with the adapter",
    models="a clean-up that takes everything there for its own",
    applies_to="lora",
    history=True,
)
mutant(
    "a_handle_comes_alive_with_the_next_adapter",
    change(Adapter.layers, "if self not in adapters_of(self.model):", "if not adapters_of(self.model):"),
    breaks="a detached handle answers, and detaches, for whatever was attached after it",
    models="a handle that is only a list of names",
    applies_to="lora",
    history=True,
)
mutant(
    "overlap_looked_for_on_the_first_layer",
    change(
        adapter.refuse_overlap,
        "for name, layer in targets.items() if",
        "for name, layer in [*targets.items()][:1] if",
    ),
    breaks="an adapter is put over another one on all layers but the first",
    models="a check that returns from inside the loop",
    applies_to="lora",
    history=True,
)
mutant(
    "handles_of_a_copy_act_on_the_original",
    change(
        adapter._uninstall,
        "_take_down(model.get_submodule(name))",
        "_take_down(adapter.model.get_submodule(name))",
    ),
    change(
        Adapter.__init__,
        "self.model = model",
        "self.__dict__['model'] = model; self.__deepcopy__ = lambda memo: self",
    ),
    breaks="detaching a copy takes the adapter off the original",
    models="a handle shared between copies",
    applies_to="lora",
    history=True,
)
mutant(
    "save_puts_the_model_in_eval_mode",
    change(checkpoint.save, "model = unwrapped(model)", "model = unwrapped(model).eval()"),
    breaks="training goes on without dropout after the first checkpoint",
    models="eval() for writing, and no way back",
    applies_to="lora",
    history=True,
)
mutant(
    "save_casts_the_live_adapter",
    change(
        checkpoint.save,
        "layers = adapter.layers()",
        "layers = {n: layer.bfloat16() for n, layer in adapter.layers().items()}",
    ),
    breaks="training goes on in bfloat16 after the first checkpoint",
    models="Module.half() taken for a copy",
    applies_to="lora",
    history=True,
)
mutant(
    "save_takes_the_adapter_off",
    change(
        checkpoint.save, "header: dict", "[adapter.detach() for adapter in attached(model)]; header: dict"
    ),
    breaks="the model is its base from the first checkpoint on",
    models="unload to write, and no way back",
    applies_to="lora",
    history=True,
)
mutant(
    "load_puts_the_model_in_eval_mode",
    change(checkpoint.load, "return install(model, adapters)", "return install(model.eval(), adapters)"),
    breaks="a model in training is in eval mode after load",
    models="is_trainable=False",
    applies_to="lora",
    history=True,
)
mutant(
    "load_installs_one_adapter_after_the_other",
    change(
        checkpoint.load,
        "return install(model, adapters)",
        "return [handle for one in adapters for handle in install(model, [one])]",
    ),
    breaks="a load that fails at the second adapter leaves the first one on",
    models="all or nothing for each part and not for the whole",
    applies_to="lora",
    history=True,
)
mutant(
    "load_thaws_the_base",
    change(
        checkpoint.load,
        "return install(model, adapters)",
        "handles = install(model, adapters); [p.requires_grad_() for _, p in base_parameters(model)]; return handles",
    ),
    breaks="after load the base trains along",
    models="freezing done by attach and forgotten by load",
    applies_to="lora",
    history=True,
)
mutant(
    "a_loaded_adapter_never_learns",
    change(
        checkpoint.load,
        "return install(model, adapters)",
        "handles = install(model, adapters)\n"
        "    [p.register_hook(torch.zeros_like) for handle in handles for p in handle.parameters()]\n"
        "    return handles",
    ),
    breaks="after load every gradient is there and is zero",
    models="a resumed run whose parameters the loss no longer reaches",
    applies_to=("lora", "dora"),
    history=True,
)
mutant(
    "merge_leaves_the_base_frozen",
    change(
        merging.merge,
        "    detach(model)\n",
        "    from lora_lite.adapter import STATE, _take_down\n"
        "    [_take_down(model.get_submodule(n)) for n in merged]; delattr(model, STATE)\n",
    ),
    breaks="nothing of a merged model trains",
    models="detach's clean-up forgotten in merge",
    applies_to="lora",
    history=True,
)
mutant(
    "merge_replaces_the_parameter",
    change(
        merging.merge,
        "layer.weight.copy_(weight)",
        'layer.register_parameter("weight", nn.Parameter(weight))',
    ),
    breaks="a merged weight trains that the user had frozen",
    models="a new parameter in place of the old one's numbers",
    applies_to="lora",
    history=True,
)
mutant(
    "merge_folds_one_adapter_and_drops_the_others",
    change(merging.merge, "for adapter in attached(model):", "for adapter in attached(model)[:1]:"),
    breaks="of two adapters one is folded in and the other one's effect is lost",
    models="merge_and_unload of the active adapter",
    applies_to="lora",
    history=True,
)
mutant(
    "frozen_tensors_are_not_in_the_state_dict",
    change(
        adapter._hang,
        "layer.add_module(CHILD, module)",
        "layer.add_module(CHILD, module); module._non_persistent_buffers_set.update(module._buffers)",
    ),
    breaks="a state dict of the whole model leaves half of the adapter behind",
    models="persistent=False",
    applies_to=("pissa", "delora", "antipasto"),
    history=True,
)
mutant(
    "frozen_tensors_are_plain_attributes",
    change(
        adapter._hang,
        "layer.add_module(CHILD, module)",
        "layer.add_module(CHILD, module); "
        "[module.__dict__.__setitem__(name, module._buffers.pop(name)) for name in list(module._buffers)]",
    ),
    breaks="model.to(dtype) leaves the frozen tensors behind, and no file has them",
    models="tensors that the module does not know of",
    applies_to=("pissa", "delora", "antipasto"),
    history=True,
)
