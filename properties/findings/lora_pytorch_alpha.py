"""A larger alpha makes lora-pytorch's update smaller: it is given to an init as the slope of a leaky ReLU.

Claim: init_keeps_the_laws_of_the_formula
Measured: the init is 0.14 times as large at alpha 16 as at 1, rank 2 (lora-pytorch 0.2.0, torch 2.13.0).
Silent.
Documented: a comment says that the projection is scaled by alpha / rank ahead of time.
Fix: multiply what kaiming_uniform_ gives by alpha / rank.
"""

import torch
from lora_pytorch.modules.linear import LinearLoRAModule

sizes = []
for alpha in (1.0, 16.0):
    torch.manual_seed(0)
    sizes.append(float(LinearLoRAModule(64, 64, rank=2, alpha=alpha).in_proj.norm()))
ratio = sizes[1] / sizes[0]
print(f"the projection at alpha 16 is {ratio:.2g} times that at alpha 1, wanted 16 times")
raise SystemExit(ratio < 1)
