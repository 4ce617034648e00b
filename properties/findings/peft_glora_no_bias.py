"""On a layer without bias GLoRA drops C, D and E, and with config_A_B="none" attaches nothing that trains.

Claim: the_base_does_not_train
Measured: 0 trained tensors, and with a bias 4 (peft 0.21.2, torch 2.13.0). Silent.
Documented: no: "b_eff = b0 + b0 * D + E + W0 @ C", of which E and W0 @ C are there at b0 = 0.
Fix: refuse a layer without bias where C, D or E is asked for, or say that they are left out.
"""

import torch
from peft import GloraConfig, get_peft_model

counts = {}
for bias in (True, False):
    config = GloraConfig(r=2, config_A_B="none", target_modules=["0"])
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4, bias=bias)), config)
    counts[bias] = sum(p.requires_grad for p in model.parameters())
print(f"trained tensors with a bias: {counts[True]}, without: {counts[False]}")
raise SystemExit(counts[False] == 0)
