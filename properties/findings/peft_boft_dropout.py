"""BOFT's dropout rounds its share of blocks down: with fewer than 1 / p blocks it drops nothing.

Claim: what_is_dropped_is_drawn_anew
Measured: of 4 blocks none is dropped at 0.2, a quarter at 0.4 (peft 0.21.2, torch 2.13.0). Silent.
Documented: "The multiplicative dropout probability, by setting OFT blocks to identity during training".
Fix: draw for each block whether it is the identity, as nn.Dropout does for each entry.
"""

import torch
from peft import BOFTConfig, get_peft_model

torch.manual_seed(0)
x, rates = torch.eye(8), {}
for p in (0.2, 0.4):
    base = torch.nn.Sequential(torch.nn.Linear(8, 8))
    model = get_peft_model(base, BOFTConfig(boft_block_size=2, boft_dropout=p, target_modules=["0"]))
    torch.nn.init.normal_(base[0].boft_R["default"])
    wanted = model.eval()(x)
    model.train()
    # A row of x is of one block: where that is the identity, the output is another.
    other = torch.stack([(model(x) - wanted).abs().amax(1) > 1e-6 for _ in range(200)])
    rates[p] = float(other.float().mean())
print(f"of the blocks are dropped {rates}")
raise SystemExit(any(abs(rate - p) > 0.1 for p, rate in rates.items()))
