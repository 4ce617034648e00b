"""Silent failures beside plain layers: compiled models, models that are wrapped or split over processes, quantised bases."""

from lora_lite import adapter, checkpoint, linear, parallel
from properties.mutation.mutant import change, mutant

OUT, IN = adapter._adapt_output, adapter._adapt_input
FIRST = "x = first_argument(layer, args, kwargs)"

mutant(
    "compiled_code_is_kept_at_attach",
    change(adapter.install, 'if "torch._dynamo" in sys.modules:', "if False:"),
    breaks="a model that was compiled before attach runs on without its adapter",
    models="torch.compile's guards, which leave out hooks",
    applies_to=("lora", "hra"),
)
mutant(
    "the_hook_rests_while_compiling",
    change(OUT, FIRST, f"if torch.compiler.is_compiling(): return y\n    {FIRST}"),
    breaks="the compiled model is the base alone",
    models="a hook that the tracer is told to skip",
    applies_to="lora",
)
mutant(
    "the_hook_breaks_the_graph",
    change(IN, FIRST, f"torch._dynamo.graph_break()\n    {FIRST}"),
    breaks="every adapted layer cuts the compiled graph in two",
    models="a print, a .item() or a context manager that cannot be traced",
    applies_to="hra",
)
mutant(
    "the_hook_counts_its_calls",
    change(
        OUT,
        FIRST,
        f"{FIRST}\n    layer.calls = getattr(layer, 'calls', 0) + 1\n    if layer.calls < 0: return y",
    ),
    breaks="every step compiles anew",
    models="Python state that the compiled code depends on",
    applies_to="lora",
)
mutant(
    "a_wrapped_model_is_adapted",
    change(parallel.refuse_split, "if isinstance(module, DistributedDataParallel):", "if False:"),
    breaks="an adapter is attached whose gradients DistributedDataParallel does not know: each process trains its own",
    models="parameters added after wrapping",
    applies_to="lora",
)
mutant(
    "a_sharded_model_is_adapted",
    change(parallel.refuse_split, "if is_sharded(tensor):", "if False:"),
    breaks="an adapter is attached whose gradients fully_shard does not know: each process trains its own",
    models="parameters added after sharding",
    applies_to="lora",
)
mutant(
    "every_process_writes",
    change(parallel.is_first, "not any(sharded.device_mesh.get_coordinate())", "True"),
    breaks="all processes write the one file at the same time",
    models="a save without a rank",
    applies_to="lora",
)
mutant(
    "save_writes_the_wrappers_names",
    change(adapter.unwrapped, "model.module if isinstance(model, DistributedDataParallel) else ", ""),
    breaks="save of a wrapped model does not find its adapters",
    models="names with module. in front",
    applies_to="lora",
)
mutant(
    "save_writes_one_share",
    change(parallel.gathered, "tensor.full_tensor()", "tensor.to_local()"),
    breaks="of a sharded adapter the first process's part is saved",
    models="a state dict of local shards",
    applies_to="lora",
    equivalent="one process has the whole; test_distributed.py sees it in two",
)
mutant(
    "save_fails_but_in_the_first_process",
    change(
        parallel.gathered,
        "whole: Tensor =",
        "assert not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0\n    whole: Tensor =",
    ),
    breaks="every process but the first ends in an error",
    models="a job whose log is that of its first process",
    applies_to="lora",
    equivalent="one process is the first; test_distributed.py sees it in two",
)
mutant(
    "eight_bit_codes_are_read_as_weights",
    change(linear._read_bitsandbytes, "functional.int8_vectorwise_dequant(codes, scales)", "codes.float()"),
    breaks="norms and singular values of a bitsandbytes layer are a thousand times too large",
    models="layer.weight taken for the weight",
    applies_to=("pissa", "dora", "delora", "antipasto"),
)
mutant(
    "eight_bit_scales_are_those_of_the_first_row",
    change(linear._read_bitsandbytes, "(codes, scales)", "(codes, scales[:1].expand_as(scales))"),
    breaks="rows of a bitsandbytes layer are read with another row's scale",
    models="a scale a tensor where the format has one a row",
    applies_to=("dora", "antipasto"),
)
mutant(
    "a_fingerprint_knows_no_scales",
    change(checkpoint.fingerprint, ", *_scales(model, name)", ""),
    breaks="two quantised bases with the same codes and other scales are one base",
    models="a fingerprint of what is stored under weight",
    applies_to="lora",
)
mutant(
    "a_quantised_subclass_is_read_as_codes",
    change(linear._is_bitsandbytes, "in type(layer).__mro__", "in type(layer).__mro__[:1]"),
    breaks="norms and singular values of a user's subclass of a bitsandbytes layer are those of its codes",
    models="a type compared where its parents count too",
    applies_to=("dora", "antipasto"),
)
mutant(
    "torchs_dequantize_is_trusted",
    change(linear._knows_its_scale, " is not Tensor.dequantize", " is not None"),
    breaks="integer codes in a tensor class of their own are read as numbers",
    models="a method that every tensor has, taken for a sign",
    applies_to=("pissa", "dora", "delora", "antipasto"),
)
mutant(
    "a_fingerprint_knows_no_offset",
    change(linear.quantisation_scales, "return *tensors, torch", "return tuple(tensors) or torch"),
    breaks="two 4-bit bases whose scales differ by a constant are one base",
    models="the tensors of a state, and not its numbers",
    applies_to="lora",
)
mutant(
    "four_bit_scales_are_doubled",
    change(linear._read_bitsandbytes, "functional.dequantize_4bit", "2 * functional.dequantize_4bit"),
    breaks="norms and singular values of a 4-bit layer are twice too large",
    models="a scale by the half range where the format has one by the whole",
    applies_to=("pissa", "dora", "delora", "antipasto"),
)
mutant(
    "a_fingerprint_knows_no_four_bit_scales",
    change(
        linear.quantisation_scales, "values = state.as_dict()", 'values = {"quant_type": state.quant_type}'
    ),
    breaks="two 4-bit bases with the same codes and other scales are one base",
    models="a fingerprint of what is stored under weight",
    applies_to="lora",
)
