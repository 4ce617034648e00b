"""VB-LoRA with topk=1 never trains its logits: the softmax of the one that is kept is 1, whatever it is.

Claim: every_tensor_learns_within_two_steps
Measured: their gradient is exactly zero for topk=1, and not for 2 (peft 0.21.2, torch 2.13.0). Silent.
Documented: no: "A larger value of K increases the size of the saved model" is all that it says against more.
Fix: refuse topk=1, or keep the softmax over all logits as the weight.
"""

import torch
from peft import VBLoRAConfig, get_peft_model

torch.manual_seed(0)
sizes, x = {}, torch.randn(3, 4)
for topk in (2, 1):
    config = VBLoRAConfig(r=2, num_vectors=8, vector_length=2, topk=topk, target_modules=["0"])
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
    for p in (p for p in model.parameters() if p.requires_grad):
        p.data += torch.randn_like(p)
    model(x).square().sum().backward()
    sizes[topk] = max(float(p.grad.abs().max()) for n, p in model.named_parameters() if "logits" in n)
print(f"the largest gradient of a logit, by topk: {sizes}")
raise SystemExit(sizes[1] < 1e-9 < sizes[2])
