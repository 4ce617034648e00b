"""OFT, RoAd and MiSS with init_weights="bat" leave a float64 base rounded to float32 once they are unmerged.

Claim: unmerging_gives_it_back
Measured: off by 7e-8 of the largest entry, for rounding at 2e-16 (peft 0.21.2, torch 2.13.0). Silent.
Documented: no.
Fix: invert in the dtype of the tensors where that is wider than float32.
"""

import torch
from peft import MissConfig, OFTConfig, RoadConfig, get_peft_model

off, road = {}, RoadConfig(group_size=4, target_modules=["0"])
oft = OFTConfig(r=0, oft_block_size=4, target_modules=["0"], init_weights=False)
for config in (oft, road, MissConfig(r=2, target_modules=["0"], init_weights="bat")):
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(4, 4)).double()
    model, before = get_peft_model(base, config, autocast_adapter_dtype=False), base[0].weight.data.clone()
    for p in (p for p in model.parameters() if p.requires_grad):
        p.data += 0.1 * torch.randn_like(p)
    model.merge_adapter()
    model.unmerge_adapter()
    off[config.peft_type.value] = float((base[0].weight - before).abs().max() / before.abs().max())
print(off)
raise SystemExit(max(off.values()) > 1e-9)
