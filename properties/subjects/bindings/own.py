"""lora_lite: its tensors and settings have the names of the oracles' symbols and options."""

from properties.subjects.bindings.binding import Binding, called, inert, settings


def _of(variant: str, symbols: str, options: str = "", **fixed: bool) -> Binding:
    """Names separated by blanks. The adapter is float32 unless it is told otherwise."""
    return Binding(
        variant,
        called(**{name: name for name in symbols.split()}),
        settings(fixed, **{name: name for name in options.split()}),
        inert=inert("of how many ranks each layer gets", "rho") if variant == "eva" else {},
        dtypes=("float32",),
    )


BINDINGS: dict[str, Binding] = {
    "lora_lite:lora": _of("lora", "A B", "r alpha"),
    "lora_lite:pissa": _of("pissa", "A B A0 B0", "r alpha niter"),
    "lora_lite:dora": _of("dora", "A B m", "r alpha"),
    "lora_lite:delora": _of("delora", "A B lambda_ w A0 B0 lambda0", "r lambda_init init"),
    "lora_lite:ia3": _of("ia3", "offset"),
    "lora_lite:ia3_ff": _of("ia3_ff", "offset"),
    "lora_lite:hra": _of("hra", "U", "r"),
    # Its law is about data, and claims of its own draw some.
    "lora_lite:eva": _of("eva", "A B", "r alpha", lawful=False),
    "lora_lite:full": _of("full", "W b"),
}
