"""Settings that cannot work: what every config, and every layer of a shape, must refuse."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st

import lora_lite as ll
from strategies.options import Options, build_config

# By name: a recipe is JSON and holds no NaN.
VALUES: dict[str, Any] = {
    "nothing": None,
    "zero": 0,
    "minus one": -1,
    "a half": 0.5,
    "true": True,
    "one": 1,
    "four": 4.0,
    "nan": math.nan,
    "infinity": math.inf,
    "a word": "eight",
    "int8": torch.int8,
    "an empty word": ("",),
    "a broken pattern": ("*up",),
    "no index": (),
    "a negative index": (0, -1),
    "true as an index": (True,),
}
WRONG = {
    "r": ("nothing", "zero", "minus one", "a half", "true", "a word"),
    "alpha": ("nothing", "zero", "minus one", "true", "nan", "infinity", "a word"),
    "dtype": ("nothing", "int8", "a word"),
    "target_names": ("nothing", "minus one", "an empty word", "a broken pattern"),
    "exclude_names": ("nothing", "minus one", "an empty word", "a broken pattern"),
    "target_roles": ("nothing", "minus one", "a word"),
    "layers": ("zero", "no index", "a negative index", "true as an index", "a word"),
    "niter": ("minus one", "a half", "true", "a word"),
    "lambda_init": ("nothing", "minus one", "true", "nan", "infinity", "a word"),
    "init": ("nothing", "a word"),
    "rho": ("nothing", "zero", "a half", "true", "nan", "infinity", "a word"),
    "rotate_basis": ("nothing", "a word"),
    "block_size": ("nothing", "zero", "one", "true", "a half", "four", "a word"),
    "max_skew": ("nothing", "zero", "minus one", "true", "nan", "infinity", "four", "a word"),
}


@dataclass(frozen=True)
class Refused:
    """A variant's options, the name in VALUES of what `field` gets, and a layer's shape; one of them cannot be.

    field: what the message has to name; "" where it is the shape, and the message has to name the layer.
    """

    variant: str
    field: str
    wrong: str = ""
    options: Options = ()
    d_in: int = 8
    d_out: int = 8

    def config(self) -> ll.AdapterConfig:
        if self.wrong:
            return ll.VARIANTS[self.variant].config_class(**{self.field: VALUES[self.wrong]})
        return build_config(self.variant, self.options)


# What is fine by itself and cannot work together, or on a layer of this shape.
TOGETHER = (
    Refused("hra", "r", options=(("r", 3),)),
    Refused("antipasto", "r", options=(("r", 6), ("block_size", 4))),
    Refused("delora", "lambda_init", options=(("init", "zero_b"), ("lambda_init", 0.0))),
    Refused("delora", "dtype", options=(("init", "zero_b"), ("dtype", "float16"))),
    Refused("pissa", "", options=(("r", 5),), d_in=4),
    Refused("pissa", "", options=(("r", 5),), d_out=4),
    Refused("eva", "", options=(("r", 5),), d_in=4),
    Refused("eva", "", options=(("r", 5),), d_out=4),
    Refused("antipasto", "", options=(("r", 8),), d_in=4),
    Refused("antipasto", "", options=(("r", 8),), d_out=4),
    Refused("hra", "", options=(("r", 2),), d_in=1),
    Refused("delora", "", d_in=1, d_out=1),
)


def refused(variant: str) -> st.SearchStrategy[Refused]:
    """Every wrong value of every field that the variant has, and what cannot work together."""
    config = ll.VARIANTS[variant].config_class
    fields = [name for name in WRONG if name in config.__dataclass_fields__ and name not in config.unused]
    alone = [Refused(variant, name, wrong) for name in fields for wrong in WRONG[name]]
    return st.sampled_from([*alone, *(case for case in TOGETHER if case.variant == variant)])
