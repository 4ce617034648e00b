"""A second OLoRA adapter changes what the first, which stays active, gives.

Claim: a_second_adapter_leaves_the_first_alone
Measured: off by 13 (peft 0.21.2, torch 2.13.0). Silent.
Documented: no: that OLoRA writes into the base can be inferred from the docstring of LoraConfig, not that
adapters then collide.
Fix: keep what is subtracted with the adapter, and leave the base weight alone.
"""

import torch
from peft import LoraConfig, get_peft_model

torch.manual_seed(0)
config = LoraConfig(r=2, target_modules=["0"], init_lora_weights="olora")
model, x = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config), torch.randn(3, 4)
before = model(x)
model.add_adapter("second", config)
off = float((model(x) - before).abs().max())
print(f"the first adapter's output is off by {off:.3g}")
raise SystemExit(off > 1e-4)
