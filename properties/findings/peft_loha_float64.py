"""LoHa rounds its scale to float32 in a float64 model.

Claim: the_output_is_the_formulas
Measured: the update is off by 3e-8 of itself at alpha 16, rank 3 (peft 0.21.2, torch 2.13.0). Silent.
Documented: no.
Fix: the scale as a number, or a tensor of the weights' dtype, in get_delta_weight.
"""

import torch
from peft import LoHaConfig, get_peft_model

torch.manual_seed(0)
base = torch.nn.Sequential(torch.nn.Linear(4, 4)).double()
model = get_peft_model(base, LoHaConfig(r=3, alpha=16, init_weights=False, target_modules=["0"])).double()
layer = base[0]
first = layer.hada_w1_a["default"] @ layer.hada_w1_b["default"]
second = layer.hada_w2_a["default"] @ layer.hada_w2_b["default"]
wanted = 16 / 3 * first * second
off = float((layer.get_delta_weight("default") - wanted).norm() / wanted.norm())
print(f"the update is off by {off:.2g} of itself")
raise SystemExit(off > 1e-12)
