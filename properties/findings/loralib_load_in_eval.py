"""loralib: adapter weights loaded in eval mode have no effect, and the next train() spoils the base.

Claim: a_state_dict_carries_the_adapter (found while its check was written)
Measured: the base weight ends off by all of the loaded update (loralib 0.1.2, torch 2.13.0). Silent.
Documented: no: the README loads before eval(), and says not why.
Fix: unmerge in a pre-hook of load_state_dict.
"""

import loralib
import torch

torch.manual_seed(0)
layer = loralib.Linear(4, 4, r=2)
before, state = layer.weight.detach().clone(), {"lora_A": torch.randn(2, 4), "lora_B": torch.randn(4, 2)}
layer.eval()
layer.load_state_dict(state, strict=False)
layer.train()
off = float((layer.weight - before).abs().max())
print(f"the base weight is off by {off:.3g}")
raise SystemExit(off > 1e-4)
