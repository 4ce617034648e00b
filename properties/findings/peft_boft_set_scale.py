"""set_scale() of a BOFT layer fails.

Claim: a_multiplier_scales_what_is_added
Measured: AttributeError: 'Linear' object has no attribute 'scaling' (peft 0.21.2, torch 2.13.0). Loud.
Documented: no: the method has no docstring there.
Fix: keep the scale under the name that __init__ gives it, or drop the method.
"""

import torch
from peft import BOFTConfig, get_peft_model

base = torch.nn.Sequential(torch.nn.Linear(4, 4))
get_peft_model(base, BOFTConfig(boft_block_size=4, target_modules=["0"]))
try:
    base[0].set_scale("default", 0.5)
except AttributeError as error:
    print(f"set_scale: {error}")
    raise SystemExit(1) from error
