"""peft's DoRA gives a single vector one more dimension.

Claim: a_row_depends_on_itself_alone
Measured: (4,) in, (1, 4) out; plain LoRA gives (4,) (peft 0.21.2, torch 2.13.0). Silent.
Documented: no.
Fix: ask for the magnitude in the shape of the output's last dimension alone.
"""

import torch
from peft import LoraConfig, get_peft_model

model = get_peft_model(
    torch.nn.Sequential(torch.nn.Linear(4, 4)), LoraConfig(r=2, target_modules=["0"], use_dora=True)
)
shape = tuple(model(torch.ones(4)).shape)
print(f"(4,) in, {shape} out")
raise SystemExit(shape != (4,))
