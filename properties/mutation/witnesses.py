"""Why a property stays that alone catches nothing of the catalogue: what it would still see if another one
went.
"""

WITNESSES = {
    "identity_at_init": "exact where the oracle's bound would let a rounding pass",
    "identity_at_init_of_a_whole_model": (
        "through attention and shared inputs, where a layer's own identity says nothing"
    ),
    "merged_layer_agrees_with_the_oracle": "the smallest case of a fault that the whole model shows too",
    "save_load_keeps_every_bit": "the smallest case of a fault that the whole model shows too",
    "forward_in_a_whole_model_agrees_with_the_oracle": (
        "the adapter on the right layer: a formula alone cannot tell"
    ),
    "gradients_in_a_whole_model_agree_with_the_oracle": (
        "gradients that pass through other adapters on their way"
    ),
    "agrees_with_peft": (
        "a second oracle by other people, should ours and the library share a misreading of the paper"
    ),
    "base_gets_no_gradient": (
        "names the parameter that leaks, where the base law only sees that one has moved"
    ),
    "base_keeps_every_bit": "the law that users rely on, under every operation in turn",
    "calibration_does_not_depend_on_batches": "needs no oracle, so that it judges a user's variant too",
    "ranks_keep_the_total_budget": "needs no oracle, so that it judges a user's variant too",
    "detach_gives_the_base_output_back": (
        "needs no look at hooks or children, so that it judges any subject"
    ),
    "a_failed_attach_leaves_the_model_as_before": (
        "draws where the failure happens; claims with a fixed case try one place each"
    ),
    "a_pattern_selects_whole_names_and_whole_dotted_ends": "draws names; fixed cases know theirs",
    "a_state_dict_carries_the_whole_adapted_model": (
        "the only way by which other trainers save; save and load do not use it"
    ),
    "attach_writes_every_entry": (
        "certain where the others see fresh memory only when it is not zero by chance"
    ),
    "an_adapter_is_built_where_its_layer_is": (
        "parameters on another device than the default, without an accelerator"
    ),
    "a_compiled_wrapper_stands_for_its_model": "names the wrapper; the other witness compiles for seconds",
    "a_config_is_frozen_and_holds_no_list_of_the_users": "the config as such, before any layer is adapted",
    "a_generator_gives_its_batches_once": "names the argument at fault",
    "a_layer_under_two_names_is_adapted_once": "names the structure at fault",
    "a_setting_that_a_variant_does_not_have_is_refused": (
        "over every variant and setting, where drawn configs are valid ones"
    ),
    "a_target_that_no_data_reaches_is_refused": "names the layer that the data missed",
    "an_out_projection_under_another_name_is_refused": "the alias; its other witness knows the usual name",
    "another_architecture_is_refused": (
        "shapes and names; the fingerprint alone would refuse it with a worse message"
    ),
    "batches_of_any_shape_are_taken_row_by_row": "the shapes that drawn cases leave out, and empty ones",
    "initial_values_that_overflow_are_refused": (
        "names the layer and the dtype at attach, not at the first NaN"
    ),
    "every_setting_that_a_config_declares_to_try_is_taken": (
        "for settings of a user's variant; those of the built-in ones are tried by their names"
    ),
    "tensors_are_what_the_docstring_says": (
        "needs no oracle, so that a user's tensor that trains by mistake, or starts elsewhere, is named"
    ),
    "what_is_declared_no_identity_is_none": "for variants of a user's; the built-in ones are identities",
    "every_part_is_written": "for variants of a user's that are not; the built-in ones are",
    "keyword_calls_reach_the_adapter": "needs no drawn model to call a layer by keyword",
    "merge_into_tied_weights_is_refused": "ties that drawn models have only now and then",
    "targets_are_in_the_order_of_the_model": "the order of handles, files and optimisers' states",
    "the_out_projection_of_multihead_attention_is_refused": "a layer whose own forward is never called",
    "the_output_keeps_the_base_dtype": "every pair of dtypes on every run, where drawing may miss one",
    "variants_that_take_no_data_do_not_look_at_it": "names the variant that uses a caller's generator up",
    "whatever_has_in_and_out_features_is_a_linear_layer": (
        "layers that are no nn.Linear, before any quantiser is installed"
    ),
    "only_the_adapter_trains": (
        "several steps of an optimiser that takes what requires a gradient, as training loops do"
    ),
    "every_row_of_a_parameter_matters": "needs no oracle, so that it judges a user's variant too",
    "declared_laws_hold": "needs no oracle, so that it judges a user's variant too",
    "the_gradient_is_that_of_the_output": "needs no oracle, so that it judges a user's variant too",
    "every_entry_moves_in_every_dtype": "the one look at what an optimiser can do in half precision",
    "a_planted_target_is_recovered": (
        "many steps and no oracle: state that is stale after a step, in a user's variant too"
    ),
    "reload_keeps_what_training_gave": "what the forward passes of training leave behind, and no file holds",
    "adapters_of_a_part_are_not_overlooked_by_the_whole": "one of the two directions of the same law",
    "adapters_of_the_whole_are_not_overlooked_by_a_part": "one of the two directions of the same law",
    "save_load_of_a_whole_model_keeps_every_bit": (
        "ranks that differ by layer, and several targets in one file"
    ),
    "train_and_eval_mode_give_the_same_output": (
        "names the mode at fault, over every pass that serving and training use"
    ),
    "a_deep_copy_is_independent": "any tensor that a copy shares; the mutants share two of them",
    "two_adapters_work_and_train_side_by_side": (
        "every variant beside lora in turn; a life draws which two it has"
    ),
    "an_adapter_computes_in_its_own_dtype_under_autocast": (
        "a number chosen so that a cast shows whatever the tolerance is"
    ),
    "every_field_of_a_config_changes_what_the_adapter_does": (
        "a field that a variant adds, and forgets to read"
    ),
    "every_field_of_a_config_declares_settings_to_try": (
        "a field added without values, which no mutant can add"
    ),
    "under_autocast_the_output_is_the_oracles": (
        "drawn layers, and gradients; its other witness has one number"
    ),
    "a_base_of_another_dtype_or_width_is_told_by_it": (
        "the words of the message: what was found and what was wanted"
    ),
    "a_crash_while_saving_leaves_the_old_file": (
        "a crash half-way through the bytes; its other witness never gets to write"
    ),
    "another_option_in_the_header_is_noticed": (
        "every setting of a variant in turn, where the drawn damage hits one"
    ),
    "forward_agrees_with_the_oracle": (
        "the smallest case of a wrong formula, and the fastest: the one to read first"
    ),
    "the_output_depends_on_no_earlier_batch": (
        "names the state that a batch leaves; the others see an output that is off"
    ),
    "another_number_in_a_file_is_noticed": "draws what is damaged; fixed cases know theirs",
    "places_that_cannot_be_used_are_named": "the errors of the system, as a user of open() knows them",
    "small_turns_of_antipasto_keep_their_digits": (
        "needs the digits that the drawn cases' tolerances leave to rounding"
    ),
    "merge_into_eight_bits_is_refused": "merge refused on a real engine's layer",
    "an_adapter_on_bitsandbytes_agrees_with_the_oracle": (
        "that engine's own layers: a new release is noticed here alone"
    ),
    "an_adapter_on_torchao_agrees_with_the_oracle": (
        "that engine's own tensors: a new release is noticed here alone"
    ),
    "a_layer_that_runs_twice_learns_from_both": (
        "sums of gradients need no oracle, so that it judges a user's variant too"
    ),
    "a_shared_layer_carries_one_adapter_through_its_life": (
        "a whole life under two names; claims with a fixed case look at attach alone"
    ),
    "an_adapter_on_one_of_two_tied_layers_leaves_the_other": (
        "two layers with one weight, of which one alone is adapted"
    ),
    "checkpointing_changes_no_bit": (
        "both kinds of recomputation, over blocks; fills the column of the table of engines"
    ),
    "vmap_gives_each_row_its_own_output": (
        "code that asks a tensor for its numbers or its batch, which vmap refuses"
    ),
    "selections_by_name_role_and_layer_all_have_to_hold": (
        "three filters in one call, by the names of the layers that are left"
    ),
    "output_and_gradients_are_finite_at_any_rank_and_strength": (
        "ranks and strengths that no other property draws"
    ),
    "a_row_of_the_output_depends_on_its_row_of_the_input_alone": (
        "needs no oracle, so that it judges a user's variant too"
    ),
    "a_small_first_step_is_a_small_change": (
        "needs no oracle, and holds a variant to what it declares of its first step"
    ),
    "a_failure_while_hanging_leaves_the_model_as_before": (
        "hooks and flags by name; a life sees that something is left"
    ),
    "a_layer_without_ranks_is_left_alone": "data made so that one layer gets none; drawn data seldom is",
    "several_adapters_travel_together": "two configs in one file, where a drawn case has one",
    "a_cast_model_saves_what_its_tensors_are": "the cast that users make, in one line; a life has to draw it",
    "init_of_a_large_layer_agrees_with_the_oracle": (
        "the reach of random numbers on every run, where small layers need luck"
    ),
    "first_gradients_agree_with_the_oracle": (
        "the step that training starts with, where B = 0 leaves half of the terms"
    ),
    "a_damaged_file_is_refused_or_holds_what_was_saved": (
        "several damages at once; its other witnesses make one"
    ),
    "an_adapter_on_four_bits_agrees_with_the_oracle": (
        "that engine's own layers: a new release is noticed here alone"
    ),
    "checkpointing_a_transformer_changes_no_bit": (
        "the switch of transformers, with keyword arguments and masks"
    ),
    "reentrant_checkpointing_needs_an_input_with_a_gradient": (
        "says which layers learn nothing when torch cuts the graph"
    ),
    "squares_that_overflow_half_precision_leave_the_output_right": "float16 at its limits on every run",
    "a_cast_of_the_model_reaches_every_tensor": (
        "names the tensor that stayed behind; a life sees that something did"
    ),
    "gradients_agree_with_the_oracle": "the smallest case of a fault that the whole model shows too",
    "the_length_of_delora_rows_does_not_matter": "needs no oracle, and reaches lengths that are never drawn",
    "short_rows_of_delora_do_not_overflow": "float16 at its limits on every run",
    "gradients_of_delora_may_cancel_in_half_precision": "float16 at its limits on every run",
    "strengths_of_delora_may_cancel_in_half_precision": "float16 at its limits on every run",
}
