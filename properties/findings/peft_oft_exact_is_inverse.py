"""OFT with use_cayley_neumann=False rotates the other way: by the inverse of what the default approximates.

Claim: the_output_is_the_formulas
Measured: at Q of 1e-2 the two differ by 0.04, where the series is exact to 1e-8 (peft 0.21.2, torch 2.13.0).
Silent: adapters trained with one and served with the other undo what they learnt.
Documented: "Cayley-Neumann (efficient but approximate) or the vanilla Cayley (exact)": the same map.
Fix: solve(I - Q, I + Q, left=False).
"""

import torch
from peft import OFTConfig, get_peft_model

x, rotated = torch.eye(4), []
for neumann in (True, False):
    base = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False))
    torch.nn.init.eye_(base[0].weight)
    config = OFTConfig(oft_block_size=4, r=0, use_cayley_neumann=neumann, target_modules=["0"])
    model = get_peft_model(base, config)
    torch.nn.init.constant_(base[0].oft_R["default"].weight, 1e-2)
    rotated.append(model(x).detach())
same, inverse = ((rotated[1] - other).abs().max() for other in (rotated[0], rotated[0].mT))
print(f"exact and approximate differ by {same:.2g}, exact and the approximate inverse by {inverse:.2g}")
raise SystemExit(bool(same > 1e-3 > inverse))
