"""set_scale() of a BOFT or OFT layer fails.

Claim: a_multiplier_scales_what_is_added
Measured: AttributeError: 'Linear' object has no attribute 'scaling' (peft 0.21.2, torch 2.13.0). Loud.
Documented: no: the method has no docstring there.
Fix: keep the scale under the name that the method asks for, or drop the method.
"""

import torch
from peft import BOFTConfig, OFTConfig, get_peft_model

failing = []
oft = OFTConfig(r=0, oft_block_size=4, target_modules=["0"])
for config in (BOFTConfig(boft_block_size=4, target_modules=["0"]), oft):
    base = torch.nn.Sequential(torch.nn.Linear(4, 4))
    get_peft_model(base, config)
    try:
        base[0].set_scale("default", 0.5)
    except AttributeError as error:
        failing.append(f"{config.peft_type.value}: {error}")
print(*failing, sep="\n")
raise SystemExit(bool(failing))
