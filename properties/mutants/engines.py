"""Silent failures under torch's engines: the compiler, and models that are wrapped or split over processes."""

from lora_lite import adapter
from properties.mutants.mutant import change, mutant

OUT, IN = adapter._adapt_output, adapter._adapt_input
FIRST = "x = first_argument(layer, args, kwargs)"

mutant(
    "compiled_code_is_kept_at_attach",
    change(adapter._hang, 'if "torch._dynamo" in sys.modules:', "if False:"),
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
    change(OUT, FIRST, f"{FIRST}\n    layer.calls = getattr(layer, 'calls', 0) + 1\n    if layer.calls < 0: return y"),
    breaks="every step compiles anew",
    models="Python state that the compiled code depends on",
    applies_to="lora",
)
