"""OFT takes module_dropout and drops nothing out.

Claim: every_setting_matters
Measured: train mode at 0.5 gives the bits of eval mode, in 20 calls (peft 0.21.2, torch 2.13.0). Silent.
Documented: "The multiplicative dropout probability, by setting OFT blocks to identity during training".
Fix: apply oft_dropout to the rotations in forward.
"""

import torch
from peft import OFTConfig, get_peft_model

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(8, 8)), torch.randn(3, 8)
model = get_peft_model(base, OFTConfig(oft_block_size=2, r=0, module_dropout=0.5, target_modules=["0"]))
torch.nn.init.normal_(base[0].oft_R["default"].weight)
wanted = model.eval()(x)
model.train()
dropped = sum(not torch.equal(model(x), wanted) for _ in range(20))
print(f"{dropped} of 20 calls in train mode differ from eval mode")
raise SystemExit(dropped == 0)
