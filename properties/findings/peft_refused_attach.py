"""get_peft_model() that refuses a later layer leaves the earlier ones wrapped.

Claim: a_refused_attach_leaves_the_base_as_it_was
Measured: with three methods one layer is left that is no nn.Linear (peft 0.21.2, torch 2.13.0). Loud.
Documented: no.
Fix: ask all layers before the first is replaced, or put them back when one raises.
"""

import torch
from peft import C3AConfig, GraloraConfig, MissConfig, get_peft_model

left, both = {}, ["0", "1"]
for config in (
    MissConfig(r=4, target_modules=both, init_weights="bat"),
    C3AConfig(block_size=4, target_modules=both),
    GraloraConfig(r=4, gralora_k=4, target_modules=both),
):
    base = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Linear(4, 2))
    try:
        get_peft_model(base, config)
    except Exception as error:
        left[config.peft_type.value] = [type(layer).__module__ for layer in base], str(error)[:60]
print(left)
raise SystemExit(any(name != "torch.nn.modules.linear" for names, _ in left.values() for name in names))
