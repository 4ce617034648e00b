"""A model with an AdaMSS adapter cannot be cast: part of it stays behind.

Claim: a_cast_to_float64_works
Measured: RuntimeError: expected m1 and m2 to have the same dtype (peft 0.21.2, torch 2.13.0). Loud, at the
next call; .to(device) meets the same tensors.
Documented: no.
Fix: register the frozen factors as buffers.
"""

import torch
from peft import AdamssConfig, get_peft_model

torch.manual_seed(0)
base = torch.nn.Sequential(torch.nn.Linear(4, 4))
model = get_peft_model(base, AdamssConfig(r=2, num_subspaces=2, target_modules=["0"])).double()
try:
    model(torch.randn(3, 4).double())
except RuntimeError as error:
    print(f"after .double(): {error}")
    raise SystemExit(1) from error
