"""A run for variants of its user's: what modules register them, and the tests that a conftest.py asks for."""

import dataclasses
import difflib
import itertools
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

import lora_lite as ll
from properties import Asked
from properties.judging.claim import CLAIMS as REGISTER
from properties.judging.claim import load_claims
from properties.judging.laws import KINDS, WHERE, kinds, named
from properties.judging.outcome import NOT_APPLICABLE
from properties.judging.place import PACKAGE
from properties.regressions.record import ASKED
from properties.subjects.users import import_variants
from strategies.options import (
    BUILT_IN,
    FIXED,
    NoShapeError,
    build_config,
    menu,
    near,
    own_options,
    ranked,
    simplest,
)

CLAIMS = PACKAGE / "claims"
# Laws that name settings, where others name tensors.
OF_SETTINGS = ("proportional_to", WHERE)


def adopt(config: pytest.Config) -> None:
    """Import what --variant-module and every conftest.py name.

    Where --variant chooses no others, their variants are judged and nothing else.

    Raises UsageError where a module cannot be imported, they register nothing, a variant takes no layer that
    is tried, or declares a deviation from what nobody claims of it, or a law of what it does not have.
    """
    option, conftests = config.option, _asked(config)
    config.stash[ASKED] = {one.folder: one.modules for one in conftests}
    modules = list(
        dict.fromkeys([*(option.variant_module or ()), *(m for one in conftests for m in one.modules)])
    )
    if not modules:
        return
    claims = len(REGISTER)
    _make_importable([config.invocation_params.dir, *(one.folder for one in conftests)])
    for module in modules:
        known = set(ll.VARIANTS)
        try:
            import_variants(module)
            for name in ll.VARIANTS.keys() - known:
                simplest(name)
        except (ImportError, NoShapeError) as error:
            raise pytest.UsageError(str(error)) from error
    own = own_variants()
    declared = (unfounded_deviations, unfounded_laws)
    if unfounded := [why for name in own for of in declared for why in of(ll.VARIANTS[name])]:
        raise pytest.UsageError("\n".join(unfounded))
    option.variant_module = modules
    if not option.variant and not option.subject:
        if not own and len(REGISTER) == claims:
            raise pytest.UsageError(
                f"--variant-module {' '.join(modules)}: found no variant and no claim that it registers,"
                " wanted @lora_lite.register on a class of its own."
            )
        option.variant = own
    _cover(config, [one.folder.resolve() for one in conftests])


def unfounded_deviations(variant: type[ll.Variant]) -> Iterator[str]:
    """Of each deviation from no claim, or from one that is not about the variant, which declares nothing."""
    for one in variant.deviations:
        found = f"{variant.__name__}.deviations: found {one.claim!r}, wanted the name of a claim"
        # The names of pytest's tests are not those of claims, by this.
        name, claims = one.claim.removeprefix("test_"), load_claims()
        if one.claim not in claims:
            yield f"{found}{_nearest(name, claims)}."
        elif (standing := claims[name].standing(variant)).state == NOT_APPLICABLE:
            yield f"{found} about {variant.name}: it is {standing.why}. Take the deviation out."


def unfounded_laws(variant: type[ll.Variant]) -> Iterator[str]:
    """Of each law that there is not, and of each tensor or setting in one that the variant has with no
    settings, which would be passed over, and the law be another one.
    """
    known = ("unchanged_by", WHERE, *KINDS)
    for law in kinds(variant.laws):
        if law not in known:
            yield f"{variant.__name__}.laws: found {law!r}, wanted a law{_nearest(law, known)}."
    settings = [field.name for field in dataclasses.fields(variant.config_class)]
    named_tensors = [(law, name) for law, name in named(variant.laws) if law not in OF_SETTINGS]
    tensors = _tensors(variant, {name for _, name in named_tensors})
    for law, name in named(variant.laws):
        what, there = ("setting", settings) if law in OF_SETTINGS else ("tensor", tensors)
        if there and name not in there:
            found = f"{variant.__name__}.laws: found {name!r} in {law!r}"
            yield f"{found}, wanted a {what} of {variant.name}{_nearest(name, there)}."
    stops = variant.laws.get("stops_before")
    for method in stops if isinstance(stops, Mapping) else ():
        if not callable(getattr(variant, method, None)):
            found = f"{variant.__name__}.laws: found {method!r} in 'stops_before'"
            yield f"{found}, wanted a method of {variant.name}{_nearest(method, dir(variant))}."


def _tensors(variant: type[ll.Variant], wanted: set[str]) -> list[str]:
    """Of its layers with any of its settings, as far as it takes until all that are wanted are found.

    Empty where specs raises something: claims tell that.
    """
    found: dict[str, None] = {}
    own = own_options(variant.name)
    for values in itertools.product(*own.values()):
        if wanted <= found.keys():
            break
        chosen = tuple(zip(own, values, strict=True))
        for options in (ranked(chosen, r) for r in menu(variant.name, chosen).ranks):
            if shape := near(variant.name, FIXED, FIXED, options):
                config = build_config(variant.name, options)
                try:
                    of_both = [variant.specs(ll.LinearShape(*shape, bias), config) for bias in (False, True)]
                except Exception:
                    return []
                found |= dict.fromkeys(itertools.chain(*of_both))
                break
    return list(found)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f" (the nearest is {near[0]!r})" if near else ""


def own_variants() -> list[str]:
    """Those that are not lora_lite's."""
    return [name for name in ll.VARIANTS if name not in BUILT_IN]


def _asked(config: pytest.Config) -> list[Asked]:
    """What tests_of left in the conftest.py of each folder."""
    found = []
    for plugin in config.pluginmanager.get_plugins():
        given = getattr(plugin, "pytest_plugins", ())
        found += [one for one in ([given] if isinstance(given, str) else given) if isinstance(one, Asked)]
    return found


def _make_importable(folders: Sequence[Path]) -> None:
    """As `python -m pytest` makes its folder: here, in the processes of claims, and in the printed commands.

    First of all, lest an installed package of that name is taken for the user's.
    """
    for number, folder in enumerate(folders):
        if (place := str(folder)) not in sys.path:
            sys.path.insert(0, place)
        if number and place != str(folders[0]):
            known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
            os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, [place, *known])))


def whole_names(keyword: str, names: Sequence[str]) -> str:
    """A -k in which a user's variant is chosen by its whole name: vera, but not several.

    pytest writes parameters in brackets, the first of several with a dash behind it.
    """

    def whole(found: re.Match[str]) -> str:
        return f"([{found[0]}] or [{found[0]}-)" if found[0].lower() in names else found[0]

    return re.sub(r"[\w:+\-.\[\]\\/]+", whole, keyword)


def _cover(config: pytest.Config, folders: Sequence[Path]) -> None:
    """The claims are tests of these folders, and what a run judges that names no path."""
    given = [(config.invocation_params.dir / arg.partition("::")[0]).resolve() for arg in config.args]
    if config.args_source == pytest.Config.ArgsSource.ARGS:
        wanted = any(folder.is_relative_to(path) for folder in folders for path in given)
    else:
        wanted = not any(CLAIMS.is_relative_to(path) for path in given)
    if wanted and CLAIMS not in given:
        config.args.append(str(CLAIMS))
