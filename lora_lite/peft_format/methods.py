"""Which of peft's methods a folder is of, and which one an adapter can be written as."""

from collections.abc import Mapping

from lora_lite.errors import CheckpointError
from lora_lite.peft_format.low_rank import DoRALike, LowRank
from lora_lite.peft_format.method import Method
from lora_lite.peft_format.others import DeLoRALike, HRALike, IA3Like
from lora_lite.peft_format.settings import Settings
from lora_lite.spec import Variant

# The first that takes an adapter writes it: what DELORA cannot say of one, LORA can.
METHODS: tuple[type[Method], ...] = (DeLoRALike, DoRALike, LowRank, IA3Like, HRALike)


def method_of(settings: Settings) -> type[Method]:
    """The method of a folder. Raises CheckpointError where it, or one of its settings, is none of ours."""
    kinds = {method.peft_type: method for method in METHODS}
    kind = settings.get("peft_type")
    if not isinstance(kind, str) or kind not in kinds:
        raise settings.damaged("peft_type", f"one of {', '.join(sorted(kinds))}, which lora_lite has too")
    method = kinds[kind]
    settings.refuse_unread(method.reads)
    return DoRALike if method is LowRank and settings.get("use_dora") else method


def written_as(modules: Mapping[str, Variant]) -> type[Method]:
    """The one method that all these layers can be written as. Raises CheckpointError where there is none."""
    methods: dict[type[Method], str] = {}
    for name, module in modules.items():
        method = next((one for one in METHODS if one.takes(module)), None)
        if method is None:
            raise CheckpointError(
                f"{name}: peft has no {module.name}. Merge the adapter, or keep it in lora_lite's own file."
            )
        methods.setdefault(method, f"{module.name} on {name}")
    if len(methods) > 1:
        raise CheckpointError(
            f"found {' and '.join(methods.values())}, wanted adapters that one folder of peft's can hold: it"
            " has one config. Detach one of them and export the other."
        )
    return next(iter(methods))
