"""AdaMSS takes a rank above what the layer has, and fails at the first call.

Claim: attach_works_or_is_refused_clearly
Measured: RuntimeError: mat1 and mat2 shapes cannot be multiplied (peft 0.21.2, torch 2.13.0). Loud.
Documented: no.
Fix: lower r to what the SVD gives, or compare them at attach.
"""

import torch
from peft import AdamssConfig, get_peft_model

config = AdamssConfig(r=8, num_subspaces=2, target_modules=["0"])
model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 16)), config)
try:
    model(torch.randn(3, 4))
except RuntimeError as error:
    print(f"the first call: {error}")
    raise SystemExit(1) from None
