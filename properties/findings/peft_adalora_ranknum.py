"""On a bfloat16 base AdaLoRA's divisor `ranknum` trains, and is not saved.

Claim: a_loaded_adapter_gives_what_was_saved
Measured: requires_grad is True, in float32 False (peft 0.21.2, torch 2.13.0). Silent.
Documented: a comment in adalora/layer.py says that it is "deterministic (always set to float(r)) and is not
saved".
Fix: keep requires_grad where the adapter's dtype is cast to float32.
"""

import torch
from peft import AdaLoraConfig, get_peft_model

trains = {}
for dtype in (torch.float32, torch.bfloat16):
    base = torch.nn.Sequential(torch.nn.Linear(4, 4, dtype=dtype))
    model = get_peft_model(base, AdaLoraConfig(total_step=10, target_modules=["0"]))
    trains[dtype] = any(p.requires_grad for name, p in model.named_parameters() if "ranknum" in name)
print(f"ranknum trains: {trains}")
raise SystemExit(trains[torch.bfloat16])
