"""An IA3 adapter cannot be loaded: create_lycoris_from_weights fails.

Claim: a_loaded_adapter_gives_what_was_saved
Measured: TypeError: make_module_from_state_dict() takes 4 positional arguments but 5 were given (lycoris-
lora 4.1.3, torch 2.13.0). Loud.
Documented: no.
Fix: take both entries of weight_list, weight and on_input.
"""

import torch
from lycoris import LycorisNetwork, create_lycoris_from_weights

base = torch.nn.Sequential(torch.nn.Linear(4, 4))
network = LycorisNetwork(base, network_module="ia3")
network.apply_to()
state = network.state_dict()
network.restore()
try:
    create_lycoris_from_weights(1.0, "", base, weights_sd=state)
except TypeError as error:
    print(error)
    raise SystemExit(1) from error
