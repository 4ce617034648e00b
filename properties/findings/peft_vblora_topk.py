"""VB-LoRA takes a topk larger than its vector bank, and fails at the first call.

Claim: attach_works_or_is_refused_clearly
Measured: RuntimeError: selected index k out of range (peft 0.21.2, torch 2.13.0). Loud.
Documented: no.
Fix: compare topk with num_vectors in VBLoRAConfig, as in_features is with vector_length.
"""

import torch
from peft import VBLoRAConfig, get_peft_model

config = VBLoRAConfig(r=2, num_vectors=2, topk=3, vector_length=2, target_modules=["0"])
model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
try:
    model(torch.randn(3, 4))
except RuntimeError as error:
    print(f"the first call: {error}")
    raise SystemExit(1) from None
