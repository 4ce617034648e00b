"""DyLoRA, Full, BOFT and IA3 take dropout or rank_dropout, and drop nothing out.

Claim: every_setting_matters
Measured: 7 settings at 0.5 leave train mode the bits of eval mode (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: no. LoHa and LoKr, which do not know dropout either, print a warning.
Fix: refuse what an algorithm does not know.
"""

import torch
from lycoris.wrapper import LycorisNetwork

both, x, ignored = ("dropout", "rank_dropout"), torch.randn(3, 8), []
taken = {"dylora": both, "boft": both, "ia3": both, "full": both[:1]}
for kind, name in [(kind, name) for kind, names in taken.items() for name in names]:
    torch.manual_seed(0)
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
