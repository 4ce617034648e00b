"""DeLoRA jumps at the first step: its size does not matter.

Claim: a_small_step_is_a_small_change
Measured: a step of 1e-4 changes the output by 510 %, one a hundred times larger by 520 % (peft 0.21.2,
torch 2.13.0). Silent.
Documented: no; the paper avoids a zero B, which is peft's init.
Fix: subtract the adapter as it stood at init, as equation 9 of the paper does.
"""

import torch
from peft import DeloraConfig, get_peft_model

change = {}
for step in (1e-2, 1e-4):
    torch.manual_seed(0)
    base, x = torch.nn.Sequential(torch.nn.Linear(4, 4).double()), torch.randn(3, 4).double()
    model = get_peft_model(base, DeloraConfig(r=2, target_modules=["0"]))
    before = model(x).detach()
    for parameter in (p for p in model.parameters() if p.requires_grad):
        parameter.data += step * torch.randn_like(parameter)
    change[step] = float((model(x) - before).norm() / before.norm())
print(f"relative change of the output by size of the step: {change}")
raise SystemExit(change[1e-4] > change[1e-2] / 10)
