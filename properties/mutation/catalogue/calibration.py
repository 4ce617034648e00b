"""Silent failures of calibration: the adapter starts from other data than it was given, or from another reading of it."""

from lora_lite import adapter, calibration
from lora_lite.calibration import InputMoments, calibrate
from lora_lite.variants.antipasto import AntiPaSTO, ProjectionSizes
from lora_lite.variants.eva import EVA
from properties.mutation.mutant import change, mutant

mutant(
    "calibration_stops_after_one_batch",
    change(calibration._run_all, "batches += 1", "batches += 1; break"),
    breaks="the batches after the first are not looked at",
    models="a debugging break left in the loop",
    applies_to=("eva", "antipasto"),
)
mutant(
    "moments_of_the_last_batch",
    change(InputMoments.update, "if self.mean is None or self.scatter is None:", "if True:"),
    breaks="each batch replaces what was gathered before",
    models="a hook that stores and does not accumulate",
    applies_to="eva",
)
mutant(
    "moments_not_centred",
    change(InputMoments.update, "mean = x.mean(0)", "mean = torch.zeros_like(x[0])"),
    breaks="the first direction is mostly the mean",
    models="an SVD of raw activations called PCA",
    applies_to="eva",
)
mutant(
    "moments_centred_by_batch",
    change(
        InputMoments.update, "scatter + torch.outer(shift, shift) * (self.tokens * len(x) / total)", "scatter"
    ),
    breaks="differences between the means of batches do not count",
    models="each batch centred by itself",
    applies_to="eva",
)
mutant(
    "moments_mean_of_batch_means",
    change(InputMoments.update, "self.mean += shift * (len(x) / total)", "self.mean += shift / 2"),
    breaks="the running mean weighs batches alike, however long",
    models="a mean of means with unequal batches",
    applies_to="eva",
)
mutant(
    "moments_weigh_batches_alike",
    change(
        InputMoments.update,
        "scatter = (x - mean).mT @ (x - mean)",
        "scatter = (x - mean).mT @ (x - mean) / len(x)",
    ),
    breaks="a token of a short batch counts more",
    models="covariances averaged over batches",
    applies_to="eva",
)
mutant(
    "moments_in_float32",
    change(InputMoments.update, "x = x.double()", "x = x.float().double()"),
    breaks="inputs are rounded to float32 first",
    models="float32 buffers for statistics",
    applies_to="eva",
)
mutant(
    "moments_count_a_token_that_never_was",
    change(InputMoments.__init__, "self.tokens = 0", "self.tokens = 1"),
    breaks="the first batch weighs one token more than it has",
    models="a counter that starts at one",
    applies_to="eva",
)
mutant(
    "moments_shift_counted_by_total",
    change(InputMoments.update, "(self.tokens * len(x) / total)", "len(x)"),
    breaks="the shift between batches counts too much",
    models="a slip in the pairwise update of variances",
    applies_to="eva",
)
mutant(
    "principal_directions_smallest_first",
    change(InputMoments.principal, "vectors.flip(1).mT.contiguous()", "vectors.mT.contiguous()"),
    breaks="the smallest directions come first",
    models="eigh's ascending order forgotten",
    applies_to="eva",
)
mutant(
    "principal_directions_as_columns",
    change(InputMoments.principal, "vectors.flip(1).mT.contiguous()", "vectors.flip(1).contiguous()"),
    breaks="rows of the eigenvector matrix are taken for directions",
    models="V for Vᵀ",
    applies_to="eva",
)
mutant(
    "one_calibrator_for_all_layers",
    change(
        adapter._statistics,
        "{name: variant.calibrator(layer, config) for name, layer in targets.items()}",
        "dict.fromkeys(targets, variant.calibrator(next(iter(targets.values())), config))",
    ),
    breaks="all layers' inputs run into one calibrator",
    models="dict.fromkeys with a mutable value",
    applies_to=("eva", "antipasto"),
)
mutant(
    "calibration_leaves_eval_mode",
    change(calibration._eval_mode, "module.training = training", "module.training = False"),
    breaks="dropout is off for the rest of the training",
    models="model.eval() without the way back",
    applies_to="eva",
)
mutant(
    "calibration_leaves_train_mode",
    change(calibration._eval_mode, "module.training = training", "module.training = True"),
    breaks="modules that the user put in eval mode are in train mode",
    models="model.train() at the end",
    applies_to="eva",
)
mutant(
    "calibration_restores_the_root_flag",
    change(calibration._eval_mode, "module.training = training", "module.training = flags[model]"),
    breaks="all modules get the root's flag, frozen batch norms included",
    models="model.train(was_training)",
    applies_to="eva",
)
mutant(
    "calibration_in_train_mode",
    change(calibration._eval_mode, "    model.eval()", "    pass"),
    breaks="the statistics are those of inputs after dropout",
    models="eval() forgotten",
    applies_to=("eva", "antipasto"),
)
mutant(
    "calibration_hooks_left",
    change(calibrate, "handle.remove()", "pass"),
    breaks="every later forward pass goes on gathering statistics",
    models="a hook that nobody removes",
    applies_to=("eva", "antipasto"),
)
mutant(
    "calibration_hooks_left_after_failure",
    change(
        calibrate,
        "    finally:\n        for handle in handles:\n            handle.remove()",
        "    except ZeroDivisionError:\n        raise\n    else:\n        for handle in handles:\n            handle.remove()",
    ),
    breaks="after bad data the hooks stay",
    models="clean-up that is not in a finally",
    applies_to="eva",
)
mutant(
    "calibration_mode_left_after_failure",
    change(
        calibration._eval_mode,
        "    finally:\n        for module, training",
        "    except ZeroDivisionError:\n        raise\n    else:\n        for module, training",
    ),
    breaks="after bad data the model stays in eval mode",
    models="clean-up that is not in a finally",
    applies_to="eva",
)
mutant(
    "calibration_with_gradients",
    change(calibrate, "with torch.no_grad(), _eval_mode(model):", "with _eval_mode(model):"),
    breaks="every calibration batch builds a graph",
    models="no_grad forgotten: memory, and gradients where a model calls backward itself",
    applies_to="eva",
)
mutant(
    "calibration_accepts_nan",
    change(calibration._listener, "if not torch.isfinite(x).all():", "if False:"),
    breaks="one NaN in the data spoils the statistics",
    models="unchecked data",
    applies_to="antipasto",
)
mutant(
    "calibration_accepts_unreached_targets",
    change(calibrate, "if seen == 0]", "if seen < 0]"),
    breaks="a layer that saw no data is initialised all the same",
    models="an expert that no token was routed to",
    applies_to="antipasto",
)
mutant(
    "calibration_accepts_an_empty_stream",
    change(calibrate, "if batches == 0:", "if batches < 0:"),
    breaks="a used-up generator is taken for data that reaches no layer",
    models="a generator used twice",
    applies_to="eva",
)
mutant(
    "last_token_of_each_batch",
    change(calibration._listener, "x = x.reshape(-1, x.shape[-1])", "x = x.reshape(-1, x.shape[-1])[-1:]"),
    breaks="one token a batch counts",
    models="hidden_states[:, -1]",
    applies_to=("eva", "antipasto"),
)
mutant(
    "tokens_averaged_in_a_batch",
    change(
        calibration._listener,
        "calibrator.update(x)",
        "calibrator.update(x.mean(0, keepdim=True).expand_as(x))",
    ),
    breaks="the tokens of a batch count as their mean",
    models="activations pooled over the sequence",
    applies_to="antipasto",
)
mutant(
    "batch_mapping_by_position",
    change(calibration._run, "model(**batch)", "model(*batch.values())"),
    breaks="a mapping's values are passed in its own order",
    models="batch.values() for **batch",
    applies_to="eva",
)
mutant(
    "batch_tuple_by_its_first",
    change(calibration._run, "model(*batch)", "model(batch[0])"),
    breaks="the other arguments of a tuple are dropped",
    models="inputs, *_ = batch",
    applies_to="eva",
)
mutant(
    "rho_ignored",
    change(EVA.allocate, "round(config.r * config.rho)", "config.r"),
    breaks="every layer keeps r",
    models="a config field that nothing reads",
    applies_to="eva",
)
mutant(
    "rho_rounded_down",
    change(EVA.allocate, "round(config.r * config.rho)", "int(config.r * config.rho)"),
    breaks="a layer may get one rank less than peft allows",
    models="int() for round()",
    applies_to="eva",
)
mutant(
    "rank_budget_not_kept",
    change(EVA.allocate, "[: config.r * len(shares)]", "[: round(config.r * config.rho) * len(shares)]"),
    breaks="with rho > 1 the adapter has more parameters than configured",
    models="the budget taken after redistribution",
    applies_to="eva",
)
mutant(
    "rank_goes_where_it_explains_least",
    change(EVA.allocate, "key=lambda s: -s[0]", "key=lambda s: s[0]"),
    breaks="the smallest shares of variance win",
    models="ascending for descending",
    applies_to="eva",
)
mutant(
    "rank_by_raw_variance",
    change(
        EVA.allocate,
        "(variance / total)[:most].tolist()",
        "variance[:most].tolist()",
    ),
    breaks="layers with large inputs get all ranks",
    models="explained variance for its share",
    applies_to="eva",
)
mutant(
    "rank_by_share_of_the_kept",
    change(EVA.allocate, "total = variance.sum()", "total = variance[:most].sum()"),
    breaks="shares are those of the kept directions alone",
    models="a truncated SVD normalised by itself",
    applies_to="eva",
)
mutant(
    "rank_at_least_one",
    change(
        EVA.allocate,
        "{name: winners.count(name) for name in shares if name in winners}",
        "{name: max(1, winners.count(name)) for name in shares}",
    ),
    breaks="a layer that won nothing gets a rank beyond the budget",
    models="max(1, rank)",
    applies_to="eva",
)
mutant(
    "alpha_not_adjusted_to_rank",
    change(EVA.allocate, "alpha=config.alpha * rank / config.r", "alpha=config.alpha"),
    breaks="layers with a small rank are scaled up",
    models="peft's adjust_scaling_factors forgotten",
    applies_to="eva",
)
mutant(
    "too_few_tokens_accepted",
    change(EVA.allocate, "if moments.tokens < most:", "if False:"),
    breaks="the shortage of tokens shows as a shortage of rank, or not at all where others win the ranks",
    models="a check that stands where it cannot see",
    applies_to="eva",
)
mutant(
    "rank_deficient_data_accepted",
    change(
        EVA.allocate,
        "if rank > (found := statistics[name].rank()):",
        "if (found := statistics[name].rank()) < 0:",
    ),
    breaks="directions without any variance are arbitrary",
    models="an SVD's null space taken for data",
    applies_to="eva",
)
mutant(
    "rank_of_uncut_moments",
    change(InputMoments.rank, "variance > floor", "variance >= 0"),
    breaks="rounding noise counts as variance",
    models="rank counted without a floor",
    applies_to="eva",
)
mutant(
    "principal_signs_arbitrary",
    change(EVA.initialise, "A * largest.sign()", "A"),
    breaks="the sign of a direction depends on the machine's LAPACK",
    models="eigenvectors used as they come",
    applies_to="eva",
)
mutant(
    "data_of_antipasto_ignored",
    change(AntiPaSTO.initialise, "if statistics is None:", "if True:"),
    breaks="the largest singular values are taken whatever the data",
    models="calibration that runs and changes nothing",
    applies_to="antipasto",
)
mutant(
    "projections_cancel",
    change(ProjectionSizes.update, ".abs().sum(0)", ".sum(0)"),
    breaks="positive and negative projections cancel",
    models="the mean's size for the mean size",
    applies_to="antipasto",
)
mutant(
    "projections_start_at_one",
    change(ProjectionSizes.__init__, "torch.zeros(", "torch.ones("),
    breaks="directions in which the data never points are chosen for their singular value",
    models="a sum that starts at what avoids a division by zero",
    applies_to="antipasto",
)
mutant(
    "projections_of_the_last_batch",
    change(ProjectionSizes.update, "self.total +=", "self.total ="),
    breaks="each batch replaces what was gathered before",
    models="a hook that stores and does not accumulate",
    applies_to="antipasto",
)
mutant(
    "projections_mean_of_batch_means",
    change(ProjectionSizes.update, ".abs().sum(0)", ".abs().mean(0)"),
    breaks="a token of a short batch counts more",
    models="a mean of means with unequal batches",
    applies_to="antipasto",
)
mutant(
    "projections_squared",
    change(ProjectionSizes.update, ".abs().sum(0)", ".square().sum(0)"),
    breaks="large projections count twice over",
    models="energy for mean size",
    applies_to="antipasto",
)
mutant(
    "strongest_without_singular_values",
    change(ProjectionSizes.strongest, "self.S * self.total", "self.total"),
    breaks="a direction that W barely uses may win",
    models="one factor of the score forgotten",
    applies_to="antipasto",
)
mutant(
    "weakest_directions",
    change(ProjectionSizes.strongest, "descending=True", "descending=False"),
    breaks="the directions that the data uses least are taken",
    models="argsort's default order",
    applies_to="antipasto",
)
mutant(
    "left_vectors_not_chosen",
    change(AntiPaSTO.initialise, "U[:, chosen]", "U[:, :r]"),
    breaks="U belongs to other triplets than S and Vh",
    models="an index applied to two of three factors",
    applies_to="antipasto",
)
mutant(
    "one_batch_is_taken_for_many",
    change(calibrate, "if isinstance(data, Tensor | Mapping):", "if False:"),
    breaks="each row of a tensor counts as a batch",
    models="whatever can be iterated over",
    applies_to="eva",
)
mutant(
    "unfit_batches_are_passed_over",
    change(calibration._run_all, "raise _unfit(batches, batch, error) from error", "continue"),
    breaks="calibration looks at those batches alone that happen to fit",
    models="try, except, continue in a data loop",
    applies_to="eva",
)
mutant(
    "unfit_batches_are_not_named",
    change(calibration._run_all, "except Exception as error:", "except MemoryError as error:"),
    breaks="a bad batch ends in an error from the inside of the model",
    models="an exception that says neither which batch nor what to do",
    applies_to="eva",
)
mutant(
    "unfit_batches_are_counted_from_one",
    change(calibration._unfit, "batch {number} of", "batch {number + 1} of"),
    breaks="the message points at the batch behind the bad one",
    models="two ways to count, in one library",
    applies_to="eva",
)
