"""A refused merge of lora_bias=True has changed the weight already.

Claim: a_failed_merge_leaves_the_adapter_as_it_was
Measured: the output is off by 3.6 from then on: the update counts twice (peft 0.21.2, torch 2.13.0). Loud,
and the damage stays.
Documented: the refusal is, the half of a merge is not.
Fix: look at the bias before the weight is written.
"""

import torch
from peft import LoraConfig, get_peft_model

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False)), torch.randn(3, 4)
model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"], lora_bias=True))
torch.nn.init.normal_(base[0].lora_B["default"].weight)
before = model(x)
try:
    model.merge_adapter()
except RuntimeError as error:
    print(error)
off = float((model(x) - before).abs().max())
print(f"the output after the refused merge is off by {off:.3g}")
raise SystemExit(off > 1e-4)
