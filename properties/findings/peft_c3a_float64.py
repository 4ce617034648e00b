"""C3A computes in float32 in a float64 model.

Claim: a_float64_model_keeps_its_digits
Measured: a change of the input by 1e-10 is lost (peft 0.21.2, torch
2.13.0). Silent.
Documented: no.
Fix: cast to float32 where the dtype is narrower, and not where it is wider.
"""

import torch
from peft import C3AConfig, get_peft_model

torch.manual_seed(0)
base = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False).double())
base[0].weight.data.zero_()
model, x = get_peft_model(base, C3AConfig(block_size=2, target_modules=["0"])), torch.randn(1, 4).double()
one, other = model(x), model(x * (1 + 1e-10))
change = float((other - one).abs().max() / one.abs().max())
print(f"a change of x by 1e-10 changes the output by {change:.3g}")
raise SystemExit(not 0.5e-10 < change < 2e-10)
