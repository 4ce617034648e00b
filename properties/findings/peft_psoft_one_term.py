"""PSOFT with num_cayley_neumann_terms=1 never trains its rotation.

Claim: every_tensor_learns_within_two_steps
Measured: the gradient of R is None or zero at any R: one term of the series is the identity (peft 0.21.2,
torch 2.13.0). Silent.
Documented: no: any number of terms is taken.
Fix: refuse fewer than two terms.
"""

import torch
from peft import PsoftConfig, get_peft_model

torch.manual_seed(0)
config = PsoftConfig(r=2, use_cayley_neumann=True, num_cayley_neumann_terms=1, target_modules=["0"])
model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
(R,) = [p for name, p in model.named_parameters() if name.endswith("psoft_R.default.weight")]
R.data.normal_()
loss = model(torch.randn(3, 4)).square().sum()
if loss.requires_grad:
    loss.backward()
learns = R.grad is not None and bool(R.grad.any())
print(f"the rotation gets a gradient: {learns}")
raise SystemExit(not learns)
