"""HRA with apply_GS=True is not the identity at init, and may be NaN.

Claim: a_fresh_adapter_is_finite
Measured: 12 of 12 outputs are off, or NaN, at an even rank, whose init is pairs of equal vectors (peft
0.21.2, torch 2.13.0). Silent.
Documented: no: HRAConfig tells of odd ranks alone.
Fix: draw other vectors where Gram-Schmidt follows, or refuse the two together.
"""

import torch
from peft import HRAConfig, get_peft_model

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(4, 4)), torch.randn(3, 4)
wanted = base(x)
model = get_peft_model(base, HRAConfig(r=2, apply_GS=True, target_modules=["0"]))
bad = int((~((model(x) - wanted).abs() < 1e-4)).sum())
print(f"{bad} of 12 outputs at init are not the base's: {model(x)[0].tolist()}")
raise SystemExit(bad > 0)
