"""Merging OSF twice folds the adapter in twice.

Claim: merging_twice_changes_nothing_more
Measured: off by 0.29 where the largest output is 1 (peft 0.21.2, torch 2.13.0). Silent: other tuners refuse
with a warning.
Documented: no.
Fix: look at merged_adapters first, as the other layers do.
"""

import torch
from peft import OSFConfig, get_peft_model

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(4, 4)), torch.randn(3, 4)
model = get_peft_model(base, OSFConfig(effective_rank=2, target_modules=["0"]))
for parameter in (p for p in model.parameters() if p.requires_grad):
    parameter.data += 0.3 * torch.randn_like(parameter)
before = model(x)
model.merge_adapter()
model.merge_adapter()
off = float((model(x) - before).abs().max())
print(f"the output, merged twice, is off by {off:.3g}")
raise SystemExit(off > 1e-4)
