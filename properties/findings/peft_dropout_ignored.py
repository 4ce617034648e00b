"""MiSS with init_weights="bat" and DEFT with para=True take a dropout, and drop nothing out.

Claim: what_is_dropped_is_drawn_anew
Measured: train mode at 0.5 gives the bits of eval mode, in 20 calls (peft 0.21.2, torch 2.13.0). Silent.
Documented: "The dropout probability for MiSS layers", "The dropout probability applied to the layer input".
Fix: apply it to the input of the update in these two forwards too, or refuse it.
"""

import torch
from peft import DeftConfig, MissConfig, get_peft_model

dropped, x = {}, torch.randn(3, 8)
miss = MissConfig(r=2, target_modules=["0"], init_weights="bat", miss_dropout=0.5)
for config in (miss, DeftConfig(r=2, target_modules=["0"], para=True, deft_dropout=0.5)):
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 8)), config)
    for p in (p for p in model.parameters() if p.requires_grad):
        p.data += torch.randn_like(p)
    wanted = model.eval()(x)
    model.train()
    dropped[config.peft_type.value] = sum(not torch.equal(model(x), wanted) for _ in range(20))
print(f"of 20 calls in train mode so many differ from eval mode: {dropped}")
raise SystemExit(0 in dropped.values())
