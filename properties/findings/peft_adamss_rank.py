"""AdaMSS takes a subspace_rank above r, and fails at the first call.

Claim: attach_works_or_is_refused_clearly
Measured: RuntimeError: mat1 and mat2 shapes cannot be multiplied (peft 0.21.2, torch 2.13.0). Loud.
Documented: no.
Fix: lower the rank of a subspace to what its QR decomposition gives, or compare the two in AdamssConfig.
"""

import torch
from peft import AdamssConfig, get_peft_model

config = AdamssConfig(r=2, num_subspaces=1, subspace_rank=4, target_modules=["0"])
model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 8)), config)
try:
    model(torch.randn(3, 4))
except RuntimeError as error:
    print(f"the first call: {error}")
    raise SystemExit(1) from None
