"""Silent failures of save and load: the file loads and the answer is wrong, or a file that does not belong is taken."""

from lora_lite import checkpoint
from lora_lite.config import AdapterConfig
from lora_lite.spec import Variant
from properties.mutation.mutant import change, mutant

mutant(
    "save_writes_initial_values",
    change(checkpoint.save, "tensor.detach().contiguous()", "(tensor.detach() * 0).contiguous()"),
    breaks="what is saved are not the trained values",
    models="a state dict taken before training, or of the wrong copy",
    applies_to=("lora", "hra"),
)
mutant(
    "save_rounds_to_bfloat16",
    change(
        checkpoint.save,
        "tensor.detach().contiguous()",
        "tensor.detach().bfloat16().to(tensor.dtype).contiguous()",
    ),
    breaks="tensors lose their low bits in the file",
    models="a half-precision checkpoint format in between",
    applies_to=("lora", "ia3"),
)
mutant(
    "save_drops_frozen_buffers",
    change(checkpoint.save, "layer.state_dict().items()", "layer.named_parameters()"),
    change(
        checkpoint._take,
        "saved = tensors.take(",
        'saved = torch.zeros(spec.shape) if f"{target}.{name}" not in tensors else tensors.take(',
    ),
    breaks="frozen buffers are neither saved nor missed",
    models="buffers registered as not persistent",
    applies_to=("pissa", "antipasto"),
)
mutant(
    "load_ignores_the_values",
    change(
        checkpoint._rebuild,
        "tensor.to(device=device, dtype=dtype)",
        "torch.zeros_like(tensor).to(device=device, dtype=dtype)",
    ),
    breaks="names and shapes are checked, values are not taken",
    models="load_state_dict(strict=False) with keys that never match",
    applies_to=("lora", "delora"),
)
mutant(
    "load_transposes_square_factors_as_save_did",
    change(
        checkpoint.save,
        "tensor.detach().contiguous()",
        "(tensor.detach().flip(0) if tensor.ndim else tensor.detach()).contiguous()",
    ),
    change(
        checkpoint._take,
        "taken[name] = saved",
        "taken[name] = saved.flip(0) if saved.ndim else saved",
    ),
    breaks="save and load both reverse the rows: the round trip is whole and the file is wrong",
    models="two mistakes that cancel in a round trip",
    applies_to=("lora", "hra"),
)
mutant(
    "load_casts_to_float32",
    change(checkpoint._rebuild, "dtype=dtype) for", "dtype=dtype or torch.float32) for"),
    breaks="the dtype of the file is not kept",
    models="a loader that casts what it reads to the default dtype",
    applies_to=("lora", "ia3_ff"),
)
mutant(
    "load_ignores_the_dtype_asked_for",
    change(checkpoint._rebuild, "tensor.to(device=device, dtype=dtype)", "tensor.to(device=device)"),
    breaks="load(dtype=...) casts nothing",
    models="an option accepted and forgotten",
    applies_to="lora",
)
mutant(
    "load_leaves_parameters_frozen",
    change(Variant.__init__, "nn.Parameter(tensor)", "nn.Parameter(tensor, requires_grad=tensors is None)"),
    breaks="after load nothing trains",
    models="inference-mode loading as the default",
    applies_to=("lora", "ia3"),
)
mutant(
    "load_makes_buffers_trainable",
    change(
        Variant.__init__,
        "self.register_buffer(name, tensor)",
        "self.register_buffer(name, tensor.requires_grad_(tensors is not None))",
    ),
    breaks="frozen tensors require gradients after load",
    models="every loaded tensor made a parameter",
    applies_to=("pissa", "delora"),
)
mutant(
    "load_drops_the_own_ranks",
    change(checkpoint._rebuild, "replace(config, **own)", "replace(config, r=own['r'])"),
    breaks="a layer's own alpha is lost, and with it the scale of a redistributed rank",
    models="rank_pattern saved without alpha_pattern",
    applies_to="eva",
)
mutant(
    "save_drops_the_alpha",
    change(checkpoint.save, '"alpha": layer.config.alpha', '"alpha": layer.config.alpha and 16.0'),
    breaks="alpha is saved as its default",
    models="an option that the config writer forgets",
    applies_to=("lora", "dora"),
)
mutant(
    "load_drops_an_option",
    change(
        AdapterConfig.from_json,
        "cls(**{**values, ",
        "cls(**{**{k: v for k, v in values.items() if k not in ('rotate_basis', 'max_skew')}, ",
    ),
    breaks="two options of the variant fall back to their defaults after load",
    models="a config class that grew a field which the loader does not know",
    applies_to="antipasto",
)
mutant(
    "fingerprint_of_shapes_only",
    change(
        checkpoint._digest, '(ctypes.c_char * size).from_address(data.data_ptr()) if size else b""', 'b""'
    ),
    breaks="two bases of the same shapes have the same fingerprint",
    models="a base identified by its name or its config",
    applies_to="lora",
)
mutant(
    "fingerprint_of_absolute_values",
    change(checkpoint._digest, "data = tensor.cpu().contiguous()", "data = tensor.cpu().abs().contiguous()"),
    breaks="a flipped sign goes unnoticed",
    models="a fingerprint by norms",
    applies_to="lora",
)
mutant(
    "fingerprint_ignores_order",
    change(
        checkpoint._digest, "data = tensor.cpu().contiguous()", "data = tensor.cpu().flatten().sort().values"
    ),
    breaks="two swapped rows go unnoticed",
    models="a fingerprint by sums or histograms",
    applies_to="lora",
)
mutant(
    "fingerprint_rounds",
    change(
        checkpoint._digest, "data = tensor.cpu().contiguous()", "data = tensor.cpu().bfloat16().contiguous()"
    ),
    breaks="the last bits of the base go unnoticed",
    models="a fingerprint in half precision",
    applies_to="lora",
)
mutant(
    "fingerprint_of_the_first_layer",
    change(
        checkpoint.fingerprint,
        "in base_parameters(model)\n    }",
        "in list(base_parameters(model))[:1]\n    }",
    ),
    breaks="only the first parameter of the base counts",
    models="a fingerprint by a sample",
    applies_to="lora",
)
mutant(
    "base_is_never_compared",
    change(checkpoint._check_base, "if found == wanted:", "if True:"),
    breaks="any base of the right shapes is taken",
    models="a check that always passes",
    applies_to="lora",
)
mutant(
    "extra_base_parameters_are_ignored",
    change(checkpoint._check_base, "if found == wanted:", "if wanted.items() <= found.items():"),
    breaks="a base with more in it is taken for the same",
    models="a subset comparison in one direction",
    applies_to="lora",
)
mutant(
    "another_base_may_hold_nan",
    change(checkpoint.load, "if not check_base:", "if False:"),
    breaks="check_base=False puts an adapter on a base that attach refuses, and the output is NaN",
    models="a flag that switches off more than it says",
    applies_to=("lora", "dora"),
)
mutant(
    "extra_tensors_are_ignored",
    change(checkpoint.load, "if tensors:", "if False:"),
    breaks="tensors that belong to no adapter are dropped without a word",
    models="load_state_dict(strict=False)",
    applies_to="lora",
)
mutant(
    "missing_tensors_stay_at_zero",
    change(
        checkpoint._take,
        "saved = tensors.take(",
        'saved = torch.zeros(spec.shape) if f"{target}.{name}" not in tensors else tensors.take(',
    ),
    breaks="a tensor that is not in the file becomes zero",
    models="load_state_dict(strict=False)",
    applies_to="lora",
)
mutant(
    "shapes_are_not_compared",
    change(
        checkpoint._take,
        "if saved.shape != spec.shape:",
        "if saved.numel() != torch.Size(spec.shape).numel():",
    ),
    breaks="a transposed tensor is taken",
    models="a comparison of sizes in place of shapes",
    applies_to="lora",
)
mutant(
    "integers_are_taken",
    change(
        checkpoint._take,
        "if saved.dtype not in ADAPTER_DTYPES.values() or (not cast and saved.dtype != config.dtype):",
        "if saved.is_complex():",
    ),
    breaks="a tensor of integers is taken and cast",
    models="quantised codes read as weights",
    applies_to="lora",
)
mutant(
    "nan_in_the_header_is_taken",
    change(
        checkpoint._parse_header,
        "json.loads(text, parse_constant=refuse)",
        "json.loads(text.replace('NaN', '16.0'))",
    ),
    breaks="NaN in the config is read as something else",
    models="a lenient parser",
    applies_to="lora",
)
mutant(
    "the_format_version_is_ignored",
    change(checkpoint._parse_header, 'if header.get("format") != FORMAT:', 'if "format" not in header:'),
    breaks="a file of a later format is read as if it were of this one",
    models="a version that is written and never read",
    applies_to="lora",
)
mutant(
    "save_is_not_atomic",
    change(checkpoint._write_atomically, "write(name)", "write(path)"),
    change(checkpoint._write_atomically, "os.replace(name, path)", "Path(name).unlink()"),
    breaks="the old file is overwritten while the new one is written",
    models="a write in place",
    applies_to="lora",
)
mutant(
    "a_failed_save_leaves_its_scratch_file",
    change(checkpoint._write_atomically, "Path(name).unlink(missing_ok=True)", "pass"),
    breaks="half-written files pile up beside the checkpoint",
    models="a clean-up that is missing",
    applies_to="lora",
)
mutant(
    "save_takes_the_first_adapter_only",
    change(checkpoint.save, "for adapter in attached(model):", "for adapter in attached(model)[:1]:"),
    breaks="of two adapters one is saved",
    models="an active adapter where there are several",
    applies_to="lora",
)
mutant(
    "load_returns_before_the_second_adapter",
    change(checkpoint.load, "return install(model, adapters)", "return install(model, adapters[:1])"),
    breaks="of two adapters in the file one is attached",
    models="an active adapter where there are several",
    applies_to="lora",
)
mutant(
    "load_forgets_an_overlap",
    change(checkpoint._rebuild, "refuse_overlap(layers)", "pass"),
    breaks="an adapter is loaded over another one",
    models="a check that attach has and load lacks",
    applies_to="lora",
)
mutant(
    "load_takes_a_layer_twice",
    change(
        checkpoint.load,
        "_refuse_repeated(path, model, [name for _, modules in adapters for name in modules])",
        "pass",
    ),
    breaks="two adapters of one file are hung on the same layer, one of them for good",
    models="an overlap looked for in the model and not in the file",
    applies_to="lora",
)
mutant(
    "load_forgets_that_a_layer_is_never_called",
    change(checkpoint._rebuild, "refuse_uncalled(model, layers)", "pass"),
    breaks="an adapter is loaded where it does nothing",
    models="a check that attach has and load lacks",
    applies_to="lora",
)
mutant(
    "save_writes_the_dtype_of_attach",
    change(checkpoint.save, "replace(adapter.config, dtype=_dtype(layers))", "adapter.config"),
    breaks="the header tells another dtype than the tensors have",
    models="a config saved as it was asked for and not as it is",
    applies_to="lora",
)
mutant(
    "save_takes_two_dtypes",
    change(checkpoint._dtype, "if tensor.dtype != wanted:", "if False:"),
    breaks="an adapter that was cast in part is saved, and can never be loaded",
    models="a check at the end of the road that belongs at its beginning",
    applies_to="lora",
)
mutant(
    "save_writes_nan",
    change(checkpoint._refuse_non_finite, "if not all_finite(tensor):", "if False:"),
    breaks="an adapter that diverged is written over the last good one",
    models="a checkpoint of the step after the one to keep",
    applies_to="lora",
)
mutant(
    "meta_is_saved",
    change(checkpoint.fingerprint, "if parameter.is_meta:", "if False:"),
    breaks="save on the meta device ends in an error from the inside",
    models="a model whose weights are still to come",
    applies_to="lora",
)
mutant(
    "load_takes_a_layers_numbers_for_the_configs",
    change(
        checkpoint._rebuild,
        'repr(own) == repr({"r": config.r, "alpha": config.alpha})',
        "own['r'] == config.r",
    ),
    breaks="a layer's own alpha, or its type, is lost where its rank is the config's",
    models="a shortcut for what is usual that compares half of it",
    applies_to="eva",
)
mutant(
    "load_touches_the_base",
    change(
        checkpoint._rebuild,
        "refuse_overlap(layers)",
        "refuse_overlap(layers)\n    next(iter(layers.values())).weight.data.mul_(1 + 2**-20)",
    ),
    breaks="the base weight moves by its last bits",
    models="a residual written into the base on load",
    applies_to=("lora", "pissa"),
)
mutant(
    "load_runs_the_init_again",
    change(checkpoint._take, "taken = {}", "taken = {}\n    torch.linalg.svd(torch.eye(2))"),
    breaks="load pays for an SVD whose result it throws away, or worse, keeps",
    models="a loader that builds the adapter as attach does",
    applies_to="pissa",
)
mutant(
    "the_digest_is_never_compared",
    change(checkpoint.load, 'if digest_of_all(header, tensors.digests) != header["digest"]:', "if False:"),
    breaks="a file with flipped bits in its data or its config is loaded",
    models="bit rot, and a checksum that is written and never read",
    applies_to=("lora", "ia3"),
)
mutant(
    "the_digest_knows_no_config",
    change(
        checkpoint.digest_of_all,
        "json.dumps([own, tensors], sort_keys=True)",
        "json.dumps(tensors, sort_keys=True)",
    ),
    breaks="another alpha in the header goes unnoticed",
    models="a checksum of the tensors alone",
    applies_to=("lora", "antipasto"),
)
mutant(
    "the_digest_knows_no_tensors",
    change(
        checkpoint.digest_of_all,
        "json.dumps([own, tensors], sort_keys=True)",
        "json.dumps(own, sort_keys=True)",
    ),
    breaks="flipped bits in the data go unnoticed",
    models="a checksum of the header alone",
    applies_to=("lora", "ia3"),
)
mutant(
    "every_declared_tensor_is_read",
    change(
        checkpoint.load,
        "adapters = []",
        "adapters = []\n        everything = [tensors.file.get_tensor(n).clone() for n in tensors]",
    ),
    breaks="tensors that no adapter asks for are read into memory before they are refused",
    models="a loader that reads first and looks afterwards",
    applies_to="lora",
)
mutant(
    "a_failing_read_is_not_the_files_fault",
    change(checkpoint._opened, "except SafetensorError as error:", "except ZeroDivisionError as error:"),
    breaks="a damaged file raises what the parser raises",
    models="another library's exceptions let through",
    applies_to="lora",
)
mutant(
    "alpha_may_overflow_the_dtype",
    change(AdapterConfig.__post_init__, "self.scale <= torch.finfo(self.dtype).max", "True"),
    breaks="an alpha that no float32 can hold is taken, and the first forward fails",
    models="a number checked to be finite and not to fit",
    applies_to="lora",
)
mutant(
    "a_full_disk_raises_what_the_writer_raises",
    change(checkpoint._write_atomically, "if isinstance(error, SafetensorError):", "if False:"),
    breaks="a failed write is no OSError",
    models="another library's exceptions let through",
    applies_to="lora",
)
mutant(
    "a_file_without_permission_is_called_missing",
    change(checkpoint._opened, 'path.open("rb").close()', "pass"),
    breaks="the user looks for a file that is there",
    models="safetensors' own message, which tells every OSError as a missing file",
    applies_to="lora",
)
mutant(
    "a_warning_escapes_load",
    change(AdapterConfig._check_patterns, "except NO_PATTERN", "except NO_PATTERN[:-1]"),
    breaks="where warnings are errors, a file's pattern raises a FutureWarning",
    models="an exception that only some users' settings show",
    applies_to="lora",
)
