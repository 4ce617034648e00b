"""FourierFT computes its update in float32 in a float64 model.

Claim: a_float64_model_keeps_its_digits
Measured: a change of the spectrum by 1e-10 is lost (peft 0.21.2, torch 2.13.0). Silent.
Documented: no. A comment says that the transform does not work in half precision; float64 is cast too.
Fix: cast to float32 what is coarser than float32.
"""

import torch
from peft import FourierFTConfig, get_peft_model

torch.manual_seed(0)
base = torch.nn.Sequential(torch.nn.Linear(4, 4)).double()
model = get_peft_model(base, FourierFTConfig(n_frequency=4, target_modules=["0"]))
x, spectrum = torch.randn(3, 4).double(), base[0].fourierft_spectrum["default"]
before = model(x).detach()
spectrum.data += 1e-10
lost = torch.equal(model(x).detach(), before)
print(f"{spectrum.dtype}: a change of 1e-10 is {'lost' if lost else 'seen'}")
raise SystemExit(lost)
