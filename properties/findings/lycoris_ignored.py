"""Six algorithms take use_scalar, weight_decompose or rs_lora, and do nothing with them.

Claim: every_setting_matters
Measured: 10 settings leave tensors and outputs the same bits (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: in part. The page on arguments names the algorithms that the first two are for, and
not those of rs_lora.
Fix: refuse what an algorithm does not know.
"""

import torch
from lycoris.wrapper import LycorisNetwork

three, one, ignored = ("use_scalar", "weight_decompose", "rs_lora"), ("use_scalar",), []
taken = {"dylora": three, "ia3": three, "full": one, "diag-oft": one, "boft": one, "glora": three[1:2]}
for kind, name in [(kind, name) for kind, names in taken.items() for name in names]:
    seen = []
    for value in (False, True):
        torch.manual_seed(0)
        base = torch.nn.Sequential(torch.nn.Linear(8, 8)).requires_grad_(False)
        network = LycorisNetwork(base, network_module=kind, lora_dim=4, **{name: value})
        network.apply_to()
        seen.append([p.detach().add_(0.1) for p in network.parameters()] + [base(torch.eye(8))])
    ignored += [f"{kind} {name}"] if all(map(torch.equal, *seen)) else []
print(f"{len(ignored)} ignored: {', '.join(ignored)}")
raise SystemExit(len(ignored) > 0)
