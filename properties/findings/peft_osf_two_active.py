"""Of two active OSF adapters the second does nothing, until both are merged.

Claim: two_adapters_merged_give_what_they_gave
Measured: the second changes the output by 0; merged, it is off by 0.42 (peft 0.21.2, torch 2.13.0). Silent.
Documented: no.
Fix: add up all active adapters in the forward, as the other layers do, or refuse more than one.
"""

import torch
from peft import OSFConfig, get_peft_model

torch.manual_seed(0)
config = OSFConfig(effective_rank=2, target_modules=["0"])
model, x = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config), torch.randn(3, 4)
model.add_adapter("second", config)
for name, parameter in model.named_parameters():
    if "osf_svd_params" in name:
        parameter.data += 0.3 * torch.randn_like(parameter)
first = model(x)
model.base_model.set_adapter(["default", "second"])
both = model(x)
model.merge_adapter()
off = float((model(x) - both).abs().max())
print(f"the second adds {float((both - first).abs().max()):.2g}; merged, the output is off by {off:.2g}")
raise SystemExit(off > 1e-4)
