"""peft's DoRA gives NaN where a row of the base weight is zero.

Claim: a_fresh_adapter_is_finite
Measured: 3 of 12 outputs are NaN at init (peft 0.21.2, torch 2.13.0). Silent.
Documented: no; known: peft issue 2049.
Fix: a norm of zero counts as one, as magnitude and norm are both zero there.
"""

import torch
from peft import LoraConfig, get_peft_model

base = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False))
base[0].weight.data[1] = 0
model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"], use_dora=True))
bad = int(model(torch.ones(3, 4)).isnan().sum())
print(f"{bad} of 12 outputs are NaN")
raise SystemExit(bad > 0)
