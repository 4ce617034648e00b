"""Silent failures of targeting: other layers than the config says, overlaps, and configs without effect."""

import lora_lite as ll
from lora_lite import adapter, linear, targets
from lora_lite.targets import find_targets
from properties.mutation.mutant import change, mutant

mutant(
    "pattern_is_searched",
    change(targets.matches, "re.fullmatch(pattern, name[start:])", "re.search(pattern, name[start:])"),
    breaks="a pattern matches anywhere in a name",
    models="re.search for re.fullmatch: o_proj also takes foo_proj and o_proj2",
    applies_to="lora",
)
mutant(
    "pattern_matches_a_beginning",
    change(targets.matches, "re.fullmatch(pattern, name[start:])", "re.match(pattern, name[start:])"),
    breaks="a pattern may end before the name does",
    models="re.match for re.fullmatch",
    applies_to="lora",
)
mutant(
    "pattern_has_to_be_the_whole_name",
    change(targets.matches, '[0, *(dot.end() for dot in re.finditer(r"\\.", name))]', "[0]"),
    breaks="a dotted end of a name matches nothing",
    models="full names demanded where peft's users write q_proj",
    applies_to="lora",
)
mutant(
    "pattern_sees_the_last_part_only",
    change(
        targets.matches, '[0, *(dot.end() for dot in re.finditer(r"\\.", name))]', '[name.rfind(".") + 1]'
    ),
    breaks="a pattern with a dot matches nothing",
    models='name.split(".")[-1] as what is matched',
    applies_to="lora",
)
mutant(
    "pattern_starts_anywhere",
    change(targets.matches, '[0, *(dot.end() for dot in re.finditer(r"\\.", name))]', "range(len(name))"),
    breaks="any end of a name matches, not only one after a dot",
    models="name.endswith(target): o_proj takes foo_proj",
    applies_to="lora",
)
mutant(
    "pattern_alternation_not_grouped",
    change(
        targets.matches, "re.fullmatch(pattern, name[start:])", 're.fullmatch(r"(?:.*\\.)?" + pattern, name)'
    ),
    breaks="in a|b only a may be a dotted end, and b has to be the whole name",
    models="a pattern pasted into a larger one without a group",
    applies_to="lora",
)
mutant(
    "pattern_taken_literally",
    change(targets.matches, "re.fullmatch(pattern, name[start:])", "pattern == name[start:]"),
    breaks="regular expressions match nothing",
    models="target_modules as a list of suffixes, as peft treats lists",
    applies_to="lora",
)
mutant(
    "pattern_ignores_case",
    change(
        targets.matches,
        "re.fullmatch(pattern, name[start:])",
        "re.fullmatch(pattern, name[start:], re.IGNORECASE)",
    ),
    breaks="q_proj takes Q_proj",
    models="a flag too many",
    applies_to="lora",
)
mutant(
    "first_pattern_only",
    change(
        targets._by_name, "for pattern in config.target_names))", "for pattern in config.target_names[:1]))"
    ),
    breaks="target_names after the first are ignored",
    models="an early return in a loop over patterns",
    applies_to="lora",
)
mutant(
    "patterns_have_to_match_together",
    change(
        targets._by_name,
        'set().union(*(_selected(names, pattern, "target_names") for pattern in config.target_names))',
        'set(names).intersection(*(_selected(names, pattern, "target_names") for pattern in config.target_names))',
    ),
    breaks="a layer has to match every one of target_names",
    models="all() for any()",
    applies_to="lora",
)
mutant(
    "exclusions_ignored",
    change(targets._by_name, "return wanted - excluded", "return wanted"),
    breaks="exclude_names leaves nothing out",
    models="a config field that nothing reads",
    applies_to="lora",
)
mutant(
    "exclusions_ignored_beside_names",
    change(
        targets._by_name,
        "return wanted - excluded",
        "return wanted if config.target_names else wanted - excluded",
    ),
    breaks="exclude_names counts only where target_names is empty",
    models="one field silently winning over another",
    applies_to="lora",
)
mutant(
    "only_the_first_exclusion",
    change(
        targets._by_name, "for pattern in config.exclude_names))", "for pattern in config.exclude_names[:1]))"
    ),
    breaks="exclude_names after the first are ignored",
    models="an early return in a loop over patterns",
    applies_to="lora",
)
mutant(
    "head_adapted_by_default",
    change(targets._by_name, "set(names) - _output_head(model, names)", "set(names)"),
    breaks="without target_names the output head is adapted too",
    models='"all linear layers" that forgets the head',
    applies_to="lora",
)
mutant(
    "head_never_adapted",
    change(
        targets._by_name, "return wanted - excluded", "return wanted - excluded - _output_head(model, names)"
    ),
    breaks="the head is left out even where it is named",
    models="a default that overrules what was asked for",
    applies_to="lora",
)
mutant(
    "unmatched_pattern_accepted",
    change(targets._selected, "if not found:", "if False:"),
    breaks="a pattern that matches nothing is ignored",
    models="a misspelt target that nobody hears of",
    applies_to="lora",
)
mutant(
    "unmatched_exclusion_accepted",
    change(targets._selected, "if not found:", 'if not found and field == "target_names":'),
    breaks="an exclusion that matches nothing is ignored",
    models="a misspelt exclusion: the layer is adapted after all",
    applies_to="lora",
)
mutant(
    "roles_ignored",
    change(find_targets, "wanted &= _by_role(", "_by_role("),
    breaks="target_roles selects nothing",
    models="a result that nobody takes",
    applies_to="lora",
)
mutant(
    "layers_ignored",
    change(find_targets, "wanted &= _by_layer(", "_by_layer("),
    breaks="layers selects nothing",
    models="layers_to_transform without effect",
    applies_to="lora",
)
mutant(
    "roles_added_to_names",
    change(
        find_targets,
        "wanted &= _by_role(model, names, config.target_roles)",
        "wanted |= _by_role(model, names, config.target_roles) if config.target_roles else set()",
    ),
    breaks="a layer of the role is taken whatever its name",
    models="union for intersection",
    applies_to="lora",
)
mutant(
    "roles_swapped",
    change(
        targets._by_role,
        'if shape.d_in == width:\n            found["reader"].add(name)\n        if shape.d_out == width:\n            '
        'found["writer"].add(name)',
        'if shape.d_out == width:\n            found["reader"].add(name)\n        if shape.d_in == width:\n            '
        'found["writer"].add(name)',
    ),
    breaks="readers count as writers and writers as readers",
    models="weight.shape read as (d_in, d_out)",
    applies_to="lora",
)
mutant(
    "square_layers_read_only",
    change(targets._by_role, "if shape.d_out == width:", "elif shape.d_out == width:"),
    breaks="a layer as wide as the residual stream on both sides is no writer",
    models="roles as exclusive classes",
    applies_to="lora",
)
mutant(
    "writers_count_as_inner",
    change(targets._by_role, "if width not in (shape.d_in, shape.d_out):", "if shape.d_in != width:"),
    breaks="inner means no more than not reading",
    models="one of two conditions forgotten",
    applies_to="lora",
)
mutant(
    "first_role_only",
    change(targets._by_role, "for role in roles))", "for role in roles[:1]))"),
    breaks="target_roles after the first are ignored",
    models="an early return in a loop over roles",
    applies_to="lora",
)
mutant(
    "empty_role_accepted",
    change(targets._by_role, "if not found[role]:", "if False:"),
    breaks="a role that no layer has is ignored",
    models="a selection that is silently empty",
    applies_to="lora",
)
mutant(
    "residual_width_is_the_largest",
    change(
        targets.residual_width,
        "ranking = touched.most_common(2)",
        "ranking = sorted(touched.items(), reverse=True)[:1]",
    ),
    breaks="the widest dimension of the model counts as the residual stream",
    models="the original library: the feed-forward width or the vocabulary taken for the residual width",
    applies_to="lora",
)
mutant(
    "hidden_size_ignored",
    change(
        targets.residual_width,
        'getattr(config, "hidden_size", None), int)',
        'getattr(config, "hidden_size", None), str)',
    ),
    breaks="the width is counted although the config tells it",
    models="a guess that overrules what is known",
    applies_to="lora",
)
mutant(
    "text_config_ignored",
    change(targets.residual_width, "config = text_config()", "pass"),
    breaks="the width of a multimodal model's text part is not looked up",
    models="config.hidden_size where it lies one level deeper",
    applies_to="lora",
)
mutant(
    "residual_width_tie_guessed",
    change(targets.residual_width, "if len(ranking) == 2 and", "if len(ranking) == 3 and"),
    breaks="of two widths touched equally often the first wins",
    models="a tie broken by chance",
    applies_to="lora",
)
mutant(
    "square_layers_count_twice",
    change(
        targets.residual_width,
        "touched.update({shape.d_in, shape.d_out})",
        "touched.update([shape.d_in, shape.d_out])",
    ),
    breaks="a square layer counts twice in the search for the residual width",
    models="counting dimensions where layers were meant",
    applies_to="lora",
)
mutant(
    "innermost_layer_index",
    change(targets.layer_index, "for i in numbers:", "for i in reversed(numbers):"),
    breaks="layers.3.experts.5 lies in layer 5",
    models="the last number in a name taken for the layer",
    applies_to="lora",
)
mutant(
    "outermost_number_is_the_layer",
    change(targets.layer_index, "for i in numbers:", "for i in ():"),
    breaks="0.encoder.layer.2 lies in layer 0",
    models="the first number in a name taken for the layer",
    applies_to="lora",
)
mutant(
    "any_sequential_holds_layers",
    change(
        targets.layer_index,
        "if len(container) > 1 and len({type(child) for child in container}) == 1:",
        "if True:",
    ),
    breaks="the parts of a pipeline count as layers",
    models="sentence-transformers: every layer has index 0",
    applies_to="lora",
)
mutant(
    "a_sequential_of_one_holds_layers",
    change(targets.layer_index, "len(container) > 1 and ", ""),
    breaks="every layer of a model that is the one part of a pipeline has index 0",
    models="sentence-transformers without a pooling module",
    applies_to="lora",
)
mutant(
    "module_lists_alone_hold_layers",
    change(targets.layer_index, "if not isinstance(container, nn.Sequential):", "if True:"),
    breaks="blocks in a Sequential are not counted, the experts in them are",
    models="a container type forgotten",
    applies_to="lora",
)
mutant(
    "layers_off_by_one",
    change(targets._by_layer, "if found & set(layers)}", "if found & {i - 1 for i in layers}}"),
    breaks="layer i is taken for layer i + 1",
    models="layers counted from one",
    applies_to="lora",
)
mutant(
    "layers_taken_as_a_range",
    change(
        targets._by_layer, "if found & set(layers)}", "if found & set(range(min(layers), max(layers) + 1))}"
    ),
    breaks="layers=(0, 2) takes layer 1 as well",
    models="a list of indices read as first and last",
    applies_to="lora",
)
mutant(
    "layer_index_of_the_first_name_alone",
    change(targets._by_layer, "for alias in aliases}", "for alias in aliases[:1]}"),
    breaks="a block shared between layers 0 and 1 is not found at 1",
    models="aliases forgotten, as lora_lite itself did once",
    applies_to="lora",
)
mutant(
    "absent_layers_accepted",
    change(targets._by_layer, "if absent := sorted(set(layers) - present):", "if absent := []:"),
    breaks="an index that the model does not have is ignored",
    models="layers=(12,) on 12 layers: one layer fewer than asked for",
    applies_to="lora",
)
mutant(
    "targets_in_alphabetical_order",
    change(find_targets, "for name in names if name in wanted", "for name in sorted(wanted)"),
    breaks="layer 10 comes before layer 2",
    models="names sorted as text",
    applies_to="lora",
)
mutant(
    "shared_layer_adapted_twice",
    change(
        targets._linear_names,
        "{aliases[0]: aliases for aliases in names.values()}",
        "{alias: [alias] for aliases in names.values() for alias in aliases}",
    ),
    change(find_targets, "dict(model.named_modules())", "dict(model.named_modules(remove_duplicate=False))"),
    breaks="a layer under two names carries two hooks and one adapter",
    models="named_modules(remove_duplicate=False) without a thought for aliases",
    applies_to="lora",
)
mutant(
    "second_names_unknown",
    change(targets._linear_names, "named_modules(remove_duplicate=False)", "named_modules()"),
    breaks="a shared layer cannot be selected by its second name",
    models="named_modules() hides aliases",
    applies_to="lora",
)
mutant(
    "only_nn_linear",
    change(
        linear.is_linear,
        'all(isinstance(getattr(module, width, None), int) for width in ("in_features", "out_features"))',
        "isinstance(module, nn.Linear)",
    ),
    breaks="quantised and other linear-like layers are passed over",
    models="isinstance(module, nn.Linear) as the test",
    applies_to="lora",
)
mutant(
    "hidden_forward_accepted",
    change(find_targets, "refuse_uncalled(model, wanted)", "pass"),
    breaks="an adapter hangs on MultiheadAttention.out_proj and does nothing",
    models="a hook on a layer whose forward is never called",
    applies_to="lora",
)
mutant(
    "handle_lists_targets_backwards",
    change(
        adapter.install,
        "Adapter(model, config, tuple(modules))",
        "Adapter(model, config, tuple(modules)[::-1])",
    ),
    breaks="the handle lists its targets in another order than the model's",
    models="an order that depends on how a dict was built",
    applies_to="lora",
)
mutant(
    "settings_without_effect_accepted",
    change(ll.AdapterConfig.__post_init__, "if name in self.unused:", "if False:"),
    breaks="alpha for a variant without alpha is taken and ignored",
    models="a config with fields for every variant",
    applies_to="hra",
)
mutant(
    "config_keeps_the_users_list",
    change(
        ll.AdapterConfig._normalise,
        "object.__setattr__(self, name, tuple(value))",
        "object.__setattr__(self, name, value)",
    ),
    breaks="a list changed after attach changes the config that is saved",
    models="a config stored by reference",
    applies_to="lora",
)
mutant(
    "overlap_accepted",
    change(adapter.attach, "refuse_overlap(targets)", "pass"),
    breaks="a second adapter replaces the first one's module and doubles its hook",
    models="attach that does not look",
    applies_to="lora",
)
mutant(
    "overlap_left_out",
    change(
        adapter.attach,
        "refuse_overlap(targets)",
        "targets = {name: layer for name, layer in targets.items() if not hasattr(layer, CHILD)}",
    ),
    breaks="layers that carry an adapter are passed over in silence",
    models="a skip where an error belongs",
    applies_to="lora",
)
