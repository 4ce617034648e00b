"""C3A's backward gives the input a wrong gradient, and what lies below learns from it.

Claim: the_gradient_of_the_input_is_the_formulas
Measured: off by 1.1 of its largest entry at block size 4, of the update (peft 0.21.2, torch 2.13.0).
Silent: it is right at block sizes 1 and 2.
Documented: no.
Fix: ifft(fft(gradient) * fft(weight)) for the input in BlockCircularConvolution.backward.
"""

import torch
from peft import C3AConfig, get_peft_model

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(8, 8)), torch.randn(3, 8, requires_grad=True)
torch.nn.init.zeros_(base[0].weight)
model = get_peft_model(base, C3AConfig(block_size=4, target_modules=["0"]))
upstream = torch.randn(3, 8)
(got,) = torch.autograd.grad(model(x), x, upstream)
update = (model(torch.eye(8)) - model(torch.zeros(1, 8))).mT.detach()
wanted = upstream @ update
off = float((got - wanted).abs().max() / wanted.abs().max())
print(f"the input's gradient is off by {off:.2g} of its largest entry")
raise SystemExit(off > 1e-3)
