"""AdaLoRA takes use_rslora, lora_bias and init_lora_weights="pissa", and does nothing with them.

Claim: every setting changes something (seen in the table: equal rows)
Measured: scaling, tensors and output are bit for bit those of the default (peft 0.21.2, torch 2.13.0).
Silent; use_dora is refused.
Documented: no: AdaLoraConfig inherits the fields and their docstrings.
Fix: refuse them, as use_dora is.
"""

import torch
from peft import AdaLoraConfig, get_peft_model


def state(**given):
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(4, 4))
    model = get_peft_model(base, AdaLoraConfig(total_step=10, target_modules=["0"], **given))
    return base[0].scaling["default"], {n: p.detach().tolist() for n, p in model.named_parameters()}


settings = ({"use_rslora": True}, {"lora_bias": True}, {"init_lora_weights": "pissa"})
ignored = [given for given in settings if state(**given) == state()]
print(f"without any effect: {ignored}")
raise SystemExit(bool(ignored))
