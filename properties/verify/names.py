"""What the names and shapes of a file's tensors, and its config, contradict: the model, or each other."""

import re
from pathlib import Path

from properties.verify.bases import Base
from properties.verify.engines import Peft
from properties.verify.files import PREFIX, File, layer_of, names_of
from properties.verify.report import Report

PATTERNS = ("rank_pattern", "alpha_pattern")


def look_at_names(file: File, base: Base, report: Report) -> None:
    """Which layers the file and its config speak of, and the model lacks."""
    if not file.is_peft:
        targets = [name for entry in file.config.get("adapters", ()) for name in entry.get("targets", ())]
        if lacking := [name for name in targets if name not in base.modules]:
            report.fault(
                "layers that the model lacks",
                f"the file has an adapter for them{_hint(lacking, base)}",
                lacking,
            )
        return
    if lacking := [name for name in names_of(list(file.tensors)) if name not in base.modules]:
        text = f"the file has tensors for them, which reach nothing{_hint(lacking, base)}"
        report.fault("layers that the model lacks", text, lacking)
    named = file.config.get("target_modules")
    for entry in named if isinstance(named, list) else ():
        if not any(name == entry or name.endswith(f".{entry}") for name in base.modules):
            report.fault(
                "layers that the model lacks", "the config names it, and nothing is called so", (entry,)
            )
    _look_at_patterns(file, base, report)
    there = str(file.config.get("base_model_name_or_path") or "")
    here = {Path(base.path).name, Path(str(getattr(base.model.config, "_name_or_path", ""))).name}
    if there and Path(there).name not in here:
        report.remark(
            "another name of the base", f"it was trained on {there}; a peft folder tells no more of its base"
        )
    if file.config.get("lora_alpha") == 0:
        report.fault("alpha is 0", "the config scales the adapter to nothing")


def _look_at_patterns(file: File, base: Base, report: Report) -> None:
    """Of a whole name, as peft reads them. A right folder may have one for a layer that carries no adapter;
    where nothing is called so, it was meant for what is called otherwise, and has the default.
    """
    # AdaLoRA's holds what is left of each tensor's rank.
    fields = ("alpha_pattern",) if file.config.get("peft_type") == "ADALORA" else PATTERNS
    layers, names = names_of(list(file.tensors)), (*base.modules, *base.weights)
    for field in fields:
        for key in file.config.get(field) or ():
            matches = re.compile(rf"(.*\.)?({key})$").match
            if not any(map(matches, names)):
                text = f"{field} names it, and nothing is called so: whatever it was for has the default"
                report.fault("a setting for no layer", text, (key,))
            elif not any(map(matches, layers)):
                report.remark(
                    "a setting for no layer", f"{field} has one that no adapted layer is called by", (key,)
                )


def _hint(lacking: list[str], base: Base) -> str:
    """What may be too much or too little in front of names."""
    first = lacking[0]
    parts = first.split(".")
    for i in range(1, len(parts)):
        if ".".join(parts[i:]) in base.modules:
            return f": the model's names have no {'.'.join(parts[:i])!r} in front"
    more = [name for name in base.modules if name.endswith(f".{first}")]
    return f": the model's names have {more[0].removesuffix(first)[:-1]!r} in front" if more else ""


def tell_of_misfits(engine: Peft, base: Base, report: Report) -> None:
    """Tensors of the file that reached no layer, layers without theirs, shapes that contradict the config."""
    there = [key for key in engine.misfits if layer_of(key) in base.modules]
    named = [key for key in there if layer_of(key) in engine.layers]
    if others := [key for key in there if key not in named]:
        text = "the file has tensors for them, and the config does not name them: peft drops these"
        report.fault("tensors that reach no layer", text, names_of(others))
    if named:
        own = ", ".join(dict.fromkeys(key.removeprefix(f"{PREFIX}{layer_of(key)}.") for key in named))
        report.fault(
            "tensors that reach no layer", f"nothing takes their {own}: peft drops it", names_of(named)
        )
    if engine.lacking:
        text = "the config names them, and the file has not all of their tensors: peft starts these anew"
        report.fault("tensors that are missing", text, names_of(engine.lacking))
    for axis, kind, text in (
        (
            "rank",
            "the rank contradicts the config",
            "the tensors have rank {}, the config says {}: peft refuses them",
        ),
        (
            "width",
            "shapes of another base",
            "the tensors are for a layer of width {}, here it is {}: peft refuses them",
        ),
        ("shape", "shapes that do not fit", "the tensors have the shape {}, wanted {}: peft refuses them"),
    ):
        found = [
            (name, *misfit[1:])
            for name, *shapes in engine.odd
            if (misfit := _misfit(name, *shapes))[0] == axis
        ]
        if found:
            report.fault(kind, text.format(*found[0][1:]), names_of([name for name, *_ in found]))


def _misfit(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[str, object, object]:
    rank_at = {"lora_A": 0, "lora_B": 1}.get(name.split(".")[-2])
    if rank_at is None or len(found) != 2 or len(wanted) != 2:
        return "shape", found, wanted
    if found[rank_at] != wanted[rank_at]:
        return "rank", found[rank_at], wanted[rank_at]
    return "width", found[1 - rank_at], wanted[1 - rank_at]
