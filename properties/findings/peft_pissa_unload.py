"""unload() of a PiSSA adapter leaves the residual in the base.

Claim: detach_gives_the_base_back
Measured: 0.5 where the weight's largest entry is 0.5 (peft 0.21.2, torch 2.13.0). Silent.
Documented: no: unload() says "Return the base model by removing all the PEFT modules".
Fix: subtract the frozen principal part in the forward, or add it back on unload.
"""

import torch
from peft import LoraConfig, get_peft_model

torch.manual_seed(0)
base = torch.nn.Sequential(torch.nn.Linear(4, 4))
before = base[0].weight.detach().clone()
model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"], init_lora_weights="pissa"))
off = float((model.unload()[0].weight - before).abs().max())
print(f"the weight after unload is off by {off:.3g}")
raise SystemExit(off > 1e-4)
