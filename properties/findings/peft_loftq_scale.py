"""LoftQ leaves alpha / r out: where that is above 1 the model starts further off than without an adapter.

Claim: an_init_from_data_keeps_its_laws
Measured: off by 0.31 in four bits, and by 1.2 with LoftQ (peft 0.21.2, torch 2.13.0). Silent.
Documented: no: "LoftQ will be used to quantize the backbone weights and initialize Lora layers".
Fix: divide what is decomposed by the scaling, as PiSSA's init does.
"""

import torch
from peft import LoftQConfig, LoraConfig, get_peft_model

torch.manual_seed(0)
# LoftQ sends its numbers to "cuda": where there is none they stay where they are.
to, near = torch.Tensor.to, lambda v: "cpu" if str(v).startswith("cuda") else v
if not torch.cuda.is_available():
    torch.Tensor.to = lambda t, *given, **by: to(t, *map(near, given), **{n: near(v) for n, v in by.items()})
base = torch.nn.Sequential(torch.nn.Linear(16, 32))
W = base[0].weight.detach().clone()
plain = {"r": 2, "lora_alpha": 16, "target_modules": ["0"], "loftq_config": LoftQConfig()}
layer = get_peft_model(base, LoraConfig(**plain, init_lora_weights="loftq")).base_model.model[0]
torch.Tensor.to = to
alone = float((layer.base_layer.weight - W).norm())
started = float((layer.base_layer.weight + layer.get_delta_weight("default") - W).norm())
print(f"off the weight by {alone:.3g} in four bits, and by {started:.3g} with LoftQ's adapter")
raise SystemExit(started > alone)
