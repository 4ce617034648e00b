"""Silent failures of what several variants share: every term of the formula, wrong in one way or more."""

from lora_lite import spec
from lora_lite.config import AdapterConfig
from lora_lite.spec import Variant
from lora_lite.variants import low_rank
from properties.mutation.mutant import change, mutant

LOW_RANK = ("lora", "pissa", "dora", "eva")
ADDED = (*LOW_RANK, "delora", "antipasto")
KAIMING = ("lora", "dora", "delora", "hra")
DRAW = "nn.init.kaiming_uniform_(tensor, a=math.sqrt(5))"

# Forward: the output is wrong.

mutant(
    "scale_by_the_root_of_r",
    change(vars(AdapterConfig)["scale"].fget, "self.alpha / self.r", "self.alpha / self.r**0.5"),
    breaks="s = alpha / √r",
    models="the scaling rule of another paper (rsLoRA) by default",
    applies_to=LOW_RANK,
)
mutant(
    "low_rank_scaled_twice",
    change(low_rank.add_low_rank, "F.linear(x.to(A.dtype), A)", "scale * F.linear(x.to(A.dtype), A)"),
    breaks="the scale is applied before and after B",
    models="a scale applied in a helper and again by its caller",
    applies_to=LOW_RANK,
)
mutant(
    "low_rank_scale_lost_in_mixed_dtypes",
    change(low_rank.add_up, "F.linear(h, B), alpha=scale)", "F.linear(h, B))"),
    breaks="where base and adapter differ in dtype, or tokens are few, the update is not scaled",
    models="a term lost in the branch that float32 tests never enter",
    applies_to=LOW_RANK,
)
mutant(
    "low_rank_scale_lost_in_one_dtype",
    change(low_rank.add_up, "torch.addmm(y, h, up, alpha=scale)", "torch.addmm(y, h, up)"),
    breaks="where base and adapter share a dtype the update is not scaled",
    models="a term lost in the fused branch",
    applies_to=LOW_RANK,
)
mutant(
    "low_rank_base_scaled_too",
    change(
        low_rank.add_up,
        "torch.addmm(y, h, up, alpha=scale)",
        "torch.addmm(y, h, up, alpha=scale, beta=scale)",
    ),
    breaks="the base output is scaled with the update",
    models="a fused kernel's other coefficient",
    applies_to=LOW_RANK,
)
mutant(
    "low_rank_update_of_another_token",
    change(low_rank.add_up, "h.reshape(-1, h.shape[-1])", "h.reshape(-1, h.shape[-1]).flip(0)"),
    breaks="each token gets the update of another, last first",
    models="a reshape that reorders tokens, invisible with one token",
    applies_to=ADDED,
)
mutant(
    "low_rank_scale_lost_in_batches_of_sequences",
    change(low_rank.add_up, "h.shape[-1]), up, alpha=scale)", "h.shape[-1]), up)"),
    breaks="where x has more or less than two dimensions the update is not scaled",
    models="a fast path for one shape that parts from the general one",
    applies_to=LOW_RANK,
)
mutant(
    "low_rank_up_detached_where_copied",
    change(low_rank.add_up, "up = B.t()", "up = B.detach().t()"),
    breaks="B gets no gradient",
    models="a copy made for speed outside of the graph",
    applies_to=LOW_RANK,
)
mutant(
    "low_rank_dropout_left_on",
    change(low_rank.add_low_rank, "F.linear(x.to(A.dtype), A)", "F.linear(F.dropout(x.to(A.dtype), 0.1), A)"),
    breaks="a tenth of the adapter's inputs is dropped, in eval mode too",
    models="dropout called as a function, with training=True by default",
    applies_to=LOW_RANK,
)
mutant(
    "low_rank_base_rounded_to_the_adapter_dtype",
    change(low_rank.add_up, "torch.add(y, F", "torch.add(y.to(B.dtype), F"),
    breaks="the base output passes through the adapter's dtype",
    models="y.to(adapter dtype) to make an addition fit",
    applies_to=ADDED,
)
mutant(
    "low_rank_computed_in_the_base_dtype",
    change(
        low_rank.add_low_rank,
        "return add_up(",
        "A, B = A.to(y.dtype), B.to(y.dtype)\n    return add_up(",
    ),
    breaks="float32 factors are rounded to a half-precision base before they meet x",
    models="the adapter's dtype ignored in the one place where it counts",
    applies_to=LOW_RANK,
)
mutant(
    "low_rank_hidden_rounded_to_the_base_dtype",
    change(low_rank.add_up, "tokens = y", "h = h.to(y.dtype).to(B.dtype)\n    tokens = y"),
    breaks="x Aᵀ passes through the base dtype on its way to B",
    models="an autocast region that reaches into the adapter",
    applies_to=ADDED,
)

# Gradients: the output is right, what training makes of it is not.

mutant(
    "low_rank_input_detached",
    change(low_rank.add_low_rank, "x.to(A.dtype)", "x.detach().to(A.dtype)"),
    breaks="the input's gradient misses the adapter's part",
    models="layers further down train against a base that is no longer there; right at init where B = 0",
    applies_to=LOW_RANK,
)
mutant(
    "low_rank_base_detached",
    change(low_rank.add_up, "tokens = y", "y = y.detach()\n    tokens = y"),
    breaks="the input's gradient misses the base's part",
    models="a frozen base run without gradients: adapters further down get next to none",
    applies_to=ADDED,
)
mutant(
    "parameters_need_no_gradient",
    change(Variant.reset, "with torch.no_grad():", "self.requires_grad_(False)\n    with torch.no_grad():"),
    breaks="parameters are registered without requires_grad",
    models="a freeze that came after the adapter",
)
mutant(
    "buffers_need_a_gradient",
    change(
        Variant.reset,
        "self.initialise(layer, statistics)",
        "self.initialise(layer, statistics)\n        for buffer in self.buffers():\n            buffer.requires_grad_()",
    ),
    breaks="frozen tensors require a gradient: memory and time, no error",
    models="a tensor cut from a graph without detach",
    applies_to=("pissa", "delora", "antipasto"),
)

# Init: training starts from somewhere else than the paper says.

mutant(
    "kaiming_of_another_gain",
    change(spec.kaiming_uniform, "a=math.sqrt(5)", "a=0"),
    breaks="entries reach √6 times too far",
    models="kaiming's default slope in place of nn.Linear's",
    applies_to=KAIMING,
)
mutant(
    "kaiming_of_a_narrow_gain",
    change(spec.kaiming_uniform, "a=math.sqrt(5)", "a=5"),
    breaks="entries reach half as far as they should",
    models="√5 without its root",
    applies_to=KAIMING,
)
mutant(
    "kaiming_by_the_other_fan",
    change(spec.kaiming_uniform, "a=math.sqrt(5)", "a=math.sqrt(5), mode='fan_out'"),
    breaks="the range follows the number of rows",
    models="fan_in and fan_out mixed up: a rank that sets the size of its own init",
    applies_to=KAIMING,
)
mutant(
    "kaiming_normal",
    change(spec.kaiming_uniform, "kaiming_uniform_", "kaiming_normal_"),
    breaks="entries are normal, some far outside the range",
    models="a sibling of the init",
    applies_to=KAIMING,
)
mutant(
    "kaiming_of_one_sign",
    change(spec.kaiming_uniform, DRAW, f"{DRAW}.abs_()"),
    breaks="all entries are positive",
    models="a range [0, bound) for [−bound, bound)",
    applies_to=KAIMING,
)
mutant(
    "kaiming_of_equal_rows",
    change(spec.kaiming_uniform, DRAW, f"{DRAW}\n    tensor.copy_(tensor[:1].expand_as(tensor))"),
    breaks="all rows of A are the same: rank 1, whatever r is",
    models="a draw broadcast over the rank; rows that get equal gradients never part",
    applies_to=KAIMING,
)
mutant(
    "kaiming_of_one_seed",
    change(
        spec.kaiming_uniform,
        DRAW,
        "nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=torch.Generator(tensor.device).manual_seed(0))",
    ),
    breaks="layers of one shape all start from the same numbers, and so does every run",
    models="a fixed seed inside a library",
    applies_to=KAIMING,
)
mutant(
    "zeros_not_written",
    change(spec.zeros, "nn.init.zeros_(tensor)", "pass"),
    breaks="what should be zero is whatever the memory held: mostly zero",
    models="torch.empty taken for torch.zeros",
    by_chance=True,
    applies_to=("lora", "dora", "ia3", "ia3_ff", "eva", "antipasto"),
)
mutant(
    "dtype_of_the_config_ignored",
    change(Variant.reset, "with torch.no_grad():", "self.to(torch.float32)\n    with torch.no_grad():"),
    breaks="the adapter is float32 whatever the config says",
    models="an option accepted and ignored: twice the memory, no error",
)
mutant(
    "tensors_in_half_precision",
    change(Variant.reset, "with torch.no_grad():", "self.to(torch.bfloat16)\n    with torch.no_grad():"),
    breaks="the adapter is bfloat16 whatever the config says",
    models="a base's dtype taken for the adapter's",
)
