"""What Lily gives for one row depends on the other rows of the batch.

Claim: a_row_depends_on_itself_alone
Measured: off by 1.4 (peft 0.21.2, torch 2.13.0). Silent: padding and
neighbours change an answer.
Documented: no: the docstring of LilyConfig tells of softmax weights, not that they are averaged over the
batch.
Fix: mix the experts token by token, as the router scores them.
"""

import torch
from peft import LilyConfig, get_peft_model

torch.manual_seed(0)
model = get_peft_model(
    torch.nn.Sequential(torch.nn.Linear(4, 4)), LilyConfig(r=2, num_B=2, target_modules=["0"])
)
for name, parameter in model.named_parameters():
    if "lily" in name:
        torch.nn.init.normal_(parameter)
x = torch.randn(3, 4)
off = float((model(x)[:1] - model(x[:1])).abs().max())
print(f"the first row's output alone and in a batch of 3 differ by {off:.3g}")
raise SystemExit(off > 1e-4)
