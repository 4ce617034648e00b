"""Of two active C3A adapters the second reads what the first gave, and not the layer's input.

Claim: two_adapters_merged_give_what_they_gave
Measured: off by 1.0 (peft 0.21.2, torch 2.13.0). Silent.
Documented: no: merged, both are added to the weight, as with every other method.
Fix: in the loop of C3ALinear.forward give the product another name than x.
"""

import torch
from peft import C3AConfig, get_peft_model

torch.manual_seed(0)
config = C3AConfig(target_modules=["0"], block_size=2, init_weights="gaussian")
model, x = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config), torch.randn(3, 4)
model.add_adapter("second", config)
model.base_model.set_adapter(["default", "second"])
before = model(x)
model.merge_adapter()
off = float((model(x) - before).abs().max())
print(f"two adapters, merged, are off by {off:.3g} from what they gave")
raise SystemExit(off > 1e-4)
