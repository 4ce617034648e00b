"""set_scale(1.0) changes what an AdaLoRA adapter gives.

Claim: a_multiplier_scales_what_is_added
Measured: the scaling goes from 8 to 2, the update with it (peft 0.21.2, torch 2.13.0). Silent.
Documented: no: set_scale() says "the initial scale multiplied by the provided factor".
Fix: AdaLoRA divides by its rank elsewhere: give it a set_scale of its own, without / r.
"""

import torch
from peft import AdaLoraConfig, get_peft_model

base = torch.nn.Sequential(torch.nn.Linear(4, 4))
get_peft_model(base, AdaLoraConfig(init_r=4, total_step=10, target_modules=["0"]))
before = base[0].scaling["default"]
base[0].set_scale("default", 1.0)
after = base[0].scaling["default"]
print(f"the scaling at multiplier 1 is {after:.3g}, it was {before:.3g}")
raise SystemExit(after != before)
