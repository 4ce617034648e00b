"""Two active OFT adapters merge to another function than they compute: the rotations change places.

Claim: two_adapters_merged_give_what_they_gave
Measured: off by 0.3 where the largest output is 1.4 (peft 0.21.2, torch 2.13.0). Silent.
Documented: no.
Fix: fold what is merged next on the input's side: (R1 R2) W^T, where it is R2 (R1 W^T).
"""

import torch
from peft import OFTConfig, get_peft_model

torch.manual_seed(0)
config = OFTConfig(r=0, oft_block_size=4, target_modules=["0"], init_weights=False)
model, x = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config), torch.randn(3, 4)
model.add_adapter("second", config)
for module in (m for m in model.modules() if hasattr(m, "num_cayley_neumann_terms")):
    module.weight.data.mul_(2)
model.base_model.set_adapter(["default", "second"])
before = model(x)
model.merge_adapter()
off = float((model(x) - before).abs().max())
print(f"merged, the output is off by {off:.2g}, the largest is {float(before.abs().max()):.2g}")
raise SystemExit(off > 1e-4)
