"""disable_adapter() around a PiSSA adapter runs the residual and not the base.

Claim: a_disabled_adapter_gives_the_base_output
Measured: off by 1.1 where the largest output is 1.0 (peft 0.21.2, torch 2.13.0). Silent.
Documented: no: disable_adapter() says "Use this to run inference on the base model".
Fix: subtract the frozen principal part in the forward and leave the base weight alone.
"""

import torch
from peft import LoraConfig, get_peft_model

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(4, 4)), torch.randn(3, 4)
wanted = base(x)
model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"], init_lora_weights="pissa"))
with model.disable_adapter():
    off = float((model(x) - wanted).abs().max())
print(f"the output while disabled is off by {off:.3g}")
raise SystemExit(off > 1e-4)
