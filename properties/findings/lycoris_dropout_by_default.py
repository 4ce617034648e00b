"""LoRA, GLoRA, T-LoRA and Diag-OFT drop nothing out unless bypass_mode is on.

Claim: what_is_dropped_is_drawn_anew
Measured: 6 settings at 0.5 leave train mode the bits of eval mode (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: in part. "The types of dropout that are valid could vary from method to method", and not how.
Fix: apply it where the update is computed as a weight too, or refuse it there, as LoHa and LoKr warn.
"""

import torch
from lycoris.wrapper import LycorisNetwork

both, x, ignored = ("dropout", "rank_dropout"), torch.randn(3, 8), []
taken = {"lora": both[:1], "glora": both, "tlora": both, "diag-oft": both[:1]}
for kind, name in [(kind, name) for kind, names in taken.items() for name in names]:
    base = torch.nn.Sequential(torch.nn.Linear(8, 8)).requires_grad_(False)
    network = LycorisNetwork(base, network_module=kind, lora_dim=4, **{name: 0.5})
    network.apply_to()
    for parameter in network.parameters():
        parameter.detach().add_(0.1 * torch.randn(parameter.shape))
    wanted = network.eval() and base(x)
    network.train()
    ignored += [f"{kind} {name}"] if all(torch.equal(base(x), wanted) for _ in range(20)) else []
print(f"{len(ignored)} ignored: {', '.join(ignored)}")
raise SystemExit(len(ignored) > 0)
