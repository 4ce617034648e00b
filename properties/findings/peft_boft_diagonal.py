"""The diagonal of every block that BOFT trains has no effect.

Claim: every_entry_matters
Measured: 4 of 16 entries, 1 of block size, have a gradient of exactly zero (peft 0.21.2, torch 2.13.0).
Silent: they count as trainable, and are saved.
Documented: no.
Fix: train the entries above the diagonal, as peft's OFT does.
"""

import torch
from peft import BOFTConfig, get_peft_model

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(4, 4)), torch.randn(3, 4)
model = get_peft_model(base, BOFTConfig(boft_block_size=4, target_modules=["0"]))
R = base[0].boft_R["default"]
torch.nn.init.normal_(R)
(gradient,) = torch.autograd.grad(model(x).square().sum(), R)
dead = int((gradient == 0).sum())
print(f"{dead} of {R.numel()} trainable entries have a gradient of zero")
raise SystemExit(dead > 0)
