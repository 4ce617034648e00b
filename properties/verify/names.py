"""What the names and shapes of a file's tensors, and its config, contradict: the model, or each other."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from properties.verify.bases import Base
from properties.verify.engines import Peft
from properties.verify.files import PREFIX, File, layer_of, names_of
from properties.verify.report import Report

PATTERNS = ("rank_pattern", "alpha_pattern")
# Of modules_to_save, for tasks with a head.
OF_ITSELF = ("classifier", "score", "qa_outputs")


def look_at_names(file: File, base: Base, report: Report) -> None:
    """Which layers the file and its config speak of, and the model lacks."""
    if not file.is_peft:
        if lacking := [name for name in file.layers if name not in base.modules]:
            report.fault(
                "layers that the model lacks",
                f"the file has an adapter for them{_hint(lacking, base)}",
                lacking,
            )
        return
    # What all layers share stands in front of the model, as the projections of VeRA do.
    keys = [key for key in file.tensors if key.startswith(PREFIX) or not key.startswith("base_model.")]
    if lacking := [name for name in names_of(keys, base.leaves) if name not in base.modules]:
        text = f"the file has tensors for them, which reach nothing{_hint(lacking, base)}"
        report.fault("layers that the model lacks", text, lacking)
    named = file.config.get("target_modules")
    for entry in named if isinstance(named, list) else ():
        if entry not in lacking and not any(n == entry or n.endswith(f".{entry}") for n in base.modules):
            text = "the config names it, and nothing is called so"
            report.fault("layers that the model lacks", text, (entry,))
    _look_at_indices(file.config, base, report)
    _look_at_heads(file.config, base, report)
    _look_at_patterns(file, base, report)
    there = str(file.config.get("base_model_name_or_path") or "")
    here = {Path(base.path).name, Path(str(getattr(base.model.config, "_name_or_path", ""))).name}
    if there and Path(there).name not in here:
        report.remark(
            "another name of the base", f"it was trained on {there}; a peft folder tells no more of its base"
        )
    _look_at_alpha(file, report)


def _look_at_indices(config: dict[str, Any], base: Base, report: Report) -> None:
    """Of blocks, which peft passes over where there is none of that number."""
    given = config.get("layers_to_transform")
    for index in given if isinstance(given, list) else [] if given is None else [given]:
        if not any(f".{index}." in f".{name}." for name in base.modules):
            text = "layers_to_transform names a block of this number, and the model has none"
            report.fault("layers that the model lacks", text, (str(index),))


def _look_at_heads(config: dict[str, Any], base: Base, report: Report) -> None:
    """Any end of a name counts. Some peft adds of itself, whatever the model calls its head."""
    named = config.get("modules_to_save")
    for entry in named if isinstance(named, list) else ():
        if entry not in OF_ITSELF and not any(name.endswith(entry) for name in base.modules):
            text = "modules_to_save names it, and nothing is called so"
            report.fault("layers that the model lacks", text, (entry,))


def _look_at_alpha(file: File, report: Report) -> None:
    config, kind = file.config, "alpha is 0"
    if config.get("peft_type") != "LORA":
        return
    if config.get("lora_alpha") == 0:
        report.fault(kind, "the config scales the adapter to nothing", file.layers)
    patterns = config.get("alpha_pattern")
    for key, value in patterns.items() if isinstance(patterns, dict) else ():
        if value == 0 and (matches := _matching(key, report)):
            report.fault(kind, "alpha_pattern scales them to nothing", filter(matches, file.layers))
    for name in ("r", "lora_alpha"):
        if name not in config:
            text = f"the config has no {name}: peft takes its default, 8"
            report.remark("a setting that is not told", text)
    if isinstance(alpha := config.get("lora_alpha"), int | float) and alpha < 0:
        report.remark("alpha is below 0", "the adapter is subtracted")


def _matching(pattern: str, report: Report) -> Callable[[str], object] | None:
    """Whether it is a layer's name, or the end of one; None where it is no pattern, which is told of."""
    try:
        return re.compile(rf"(.*\.)?({pattern})$").match
    except re.error as error:
        report.fault("a setting that is no pattern", f"{pattern!r}: {error}")
        return None


def _look_at_patterns(file: File, base: Base, report: Report) -> None:
    """Of a whole name, as peft reads them. A right folder may have one for a layer that carries no adapter;
    where nothing is called so, it was meant for what is called otherwise, and has the default.
    """
    # AdaLoRA's holds what is left of each tensor's rank.
    fields = ("alpha_pattern",) if file.config.get("peft_type") == "ADALORA" else PATTERNS
    layers, names = names_of(list(file.tensors)), (*base.modules, *base.weights)
    for field in fields:
        for key in file.config.get(field) or ():
            if (matches := _matching(key, report)) is None:
                continue
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
    other = f"; they are there with --class {' or '.join(base.others)}" if base.others else ""
    for i in range(1, len(parts)):
        if ".".join(parts[i:]) in base.modules:
            return f": the model's names have no {'.'.join(parts[:i])!r} in front{other}"
    more = [name for name in base.modules if name.endswith(f".{first}")]
    there = f": the model's names have {more[0].removesuffix(first)[:-1]!r} in front" if more else ""
    return there + other


def _tell_of_unplaced(engine: Peft, base: Base, report: Report) -> None:
    """Tensors of the file that peft has no place for."""
    owners = {key: layer_of(key, base.leaves) for key in engine.misfits}
    there = {key: owner for key, owner in owners.items() if owner in base.modules}
    named = {key: owner for key, owner in there.items() if owner in engine.layers}
    if others := [owner for key, owner in there.items() if key not in named]:
        text = "the file has tensors for them, and the config does not name them: peft drops these"
        report.fault("tensors that reach no layer", text, dict.fromkeys(others))
    if shared := [key for key in owners if key not in there and not key.startswith(PREFIX)]:
        text = f"nothing takes {', '.join(shared[:3])}: peft drops what it has no place for"
        report.fault("tensors that reach no layer", text)
    if named:
        own = ", ".join(dict.fromkeys(k.removeprefix(PREFIX)[len(layer) + 1 :] for k, layer in named.items()))
        bare = f", as their names have no {PREFIX!r} in front" * (not min(named).startswith(PREFIX))
        text = f"nothing takes their {own}: peft drops it{bare}"
        report.fault("tensors that reach no layer", text, dict.fromkeys(named.values()))


def tell_of_misfits(engine: Peft, base: Base, report: Report) -> None:
    """Tensors of the file that reached no layer, layers without theirs, shapes that contradict the config."""
    _tell_of_unplaced(engine, base, report)
    if engine.whole:
        text = "whole numbers where peft has others, and nothing says by what to scale them"
        report.fault("numbers that are no floating-point ones", text, names_of(engine.whole, base.leaves))
    if engine.lacking:
        text = "the config names them, and the file has not all of their tensors: peft starts these anew"
        report.fault("tensors that are missing", text, names_of(engine.lacking, base.leaves))
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
            report.fault(kind, text.format(*found[0][1:]), names_of([n for n, *_ in found], base.leaves))


def _misfit(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[str, object, object]:
    rank_at = {"lora_A": 0, "lora_B": 1}.get(name.split(".")[-2])
    if rank_at is None or len(found) != 2 or len(wanted) != 2:
        return "shape", found, wanted
    if found[rank_at] != wanted[rank_at]:
        return "rank", found[rank_at], wanted[rank_at]
    return "width", found[1 - rank_at], wanted[1 - rank_at]
