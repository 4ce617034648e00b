"""A PiSSA adapter that the fast SVD initialised comes back on another residual.

Claim: a_loaded_adapter_trains_on
Measured: off by 0.6 where the largest output is 1.7 (peft 0.21.2, torch 2.13.0). Silent.
Documented: no: LoraConfig tells how fast pissa_niter_N is, not that each load draws its SVD anew.
Fix: save what was subtracted, or draw the SVD from a seed that the file holds.
"""

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

torch.manual_seed(0)
layer, x = torch.nn.Linear(16, 16), torch.randn(3, 16)
weights = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
config = LoraConfig(r=2, target_modules=["0"], init_lora_weights="pissa_niter_4")
model = get_peft_model(torch.nn.Sequential(layer), config)
fresh = torch.nn.Linear(16, 16)
fresh.load_state_dict(weights)
# What PeftModel.from_pretrained does.
loaded = get_peft_model(torch.nn.Sequential(fresh), config)
set_peft_model_state_dict(loaded, get_peft_model_state_dict(model))
off = float((loaded(x) - model(x)).abs().max())
print(f"loaded, it is off by {off:.2g}")
raise SystemExit(off > 1e-4)
