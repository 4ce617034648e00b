"""disable_adapter() of a merged OSF adapter does not give the base.

Claim: a_merged_adapter_can_be_disabled
Measured: off by 0.29 where the largest output is 1 (peft 0.21.2, torch 2.13.0). Silent.
Documented: no: disable_adapter() says "Use this to run inference on the base model".
Fix: unmerge while disabled, as the other layers do, or refuse.
"""

import torch
from peft import OSFConfig, get_peft_model

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(4, 4)), torch.randn(3, 4)
wanted = base(x)
model = get_peft_model(base, OSFConfig(effective_rank=2, target_modules=["0"]))
for parameter in (p for p in model.parameters() if p.requires_grad):
    parameter.data += 0.3 * torch.randn_like(parameter)
model.merge_adapter()
with model.disable_adapter():
    off = float((model(x) - wanted).abs().max())
print(f"the output, merged and disabled, is off by {off:.3g}")
raise SystemExit(off > 1e-4)
