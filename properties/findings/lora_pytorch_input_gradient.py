"""lora-pytorch cuts the gradient through the frozen layer: adapters below learn from a wrong one.

Claim: gradients_are_those_of_the_forward
Measured: the gradient of the input is 0 where the layer's own is up to 0.8 (lora-pytorch 0.2.0, torch
2.13.0). Silent: the loss still falls.
Documented: no.
Fix: freeze the base's parameters, and run it with gradients on.
"""

import torch
from lora_pytorch import LoRA

torch.manual_seed(0)
base = torch.nn.Linear(4, 4)
x = torch.randn(3, 4, requires_grad=True)
(wanted,) = torch.autograd.grad(base(x).sum(), x)
(got,) = torch.autograd.grad(LoRA.from_module(torch.nn.Sequential(base), rank=2)(x).sum(), x)
off = float((got - wanted).abs().max())
print(f"the input's gradient at init is off by {off:.3g}, of {float(wanted.abs().max()):.3g}")
raise SystemExit(off > 1e-4)
