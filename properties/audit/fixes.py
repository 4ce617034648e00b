"""Where to look: failures by the function that is most likely at fault, the simplest one first."""

import re
from collections.abc import Mapping, Sequence

import lora_lite as ll
from properties.audit import documents
from properties.audit.columns import column_of, simplicity
from properties.audit.evidence import Evidence
from properties.audit.report import Failure, Fix
from properties.audit.tracing import Function, Tracer, function_of, suspect


def fixes(
    failures: Sequence[Failure], evidence: Evidence, variants: Sequence[str], tracer: Tracer | None
) -> list[Fix]:
    """By what a variant's failing tests and all passing tests ran; of each variant the simplest failure
    first.
    """
    tests_of = tracer.tests_of() if tracer else {}
    made = []
    for variant in dict.fromkeys(f.variant for f in failures):
        own = [f for f in failures if f.variant == variant]
        for place, together in _by_place(own, evidence, variants, tests_of).items():
            together.sort(key=simplicity)
            made.append(
                Fix(variant, place, list(dict.fromkeys(column_of(f.claim) for f in together)), together)
            )
    return sorted(made, key=lambda fix: (fix.variant is None, fix.variant or "", simplicity(fix.failures[0])))


def _by_place(
    failures: Sequence[Failure],
    evidence: Evidence,
    variants: Sequence[str],
    tests_of: Mapping[Function, set[str]],
) -> dict[str, list[Failure]]:
    """One variant's failures, of one or more faults: what the strongest suspect does not explain is looked at
    again.
    """
    variant, hook = failures[0].variant, _hook(failures[0], variants)
    # Where the variant is a user's, so is the fault: lora_lite is judged with its own.
    users = variant is not None and hook is None
    # What runs compiled or in another process leaves no trace of the hook, and so points nowhere.
    blind = [
        f
        for f in failures
        if variant is not None and hook and f.recipe is None and f.nodeid not in tests_of.get(hook, ())
    ]
    own = [f for f in failures if f not in blind] or blind
    found: dict[str, list[Failure]] = {}
    while own:
        where = None if users else suspect(tests_of, {f.nodeid for f in own}, evidence.passed, hook)
        explained = [f for f in own if where is None or f.nodeid in tests_of.get(where, ())] or own
        found.setdefault(str(where) if where else _place(variant) or own[0].nodeid, []).extend(explained)
        own = [f for f in own if f not in explained]
    first = next(iter(found.values()))
    first += [f for f in blind if f not in first]
    return found


def names(message: str, variant: str) -> bool:
    """Whether a failure's message speaks of this variant; a file or a package that is called like it is
    another thing.
    """
    return re.search(rf"(?<![\w./-]){re.escape(variant)}(?![\w/-]|\.\w)", message) is not None


def _hook(failure: Failure, variants: Sequence[str]) -> Function | None:
    of = failure.variant or next((v for v in variants if names(failure.message, v)), None)
    return hook_of(of) if of else None


def hook_of(variant: str) -> Function | None:
    """The variant's own hook, where lora_lite holds it."""
    return function_of(getattr(ll.VARIANTS[variant], documents.hook(ll.VARIANTS[variant])))


def _place(variant: str | None) -> str | None:
    """A user's variant lies in a file of the user's."""
    if variant is None:
        return None
    code = getattr(ll.VARIANTS[variant], documents.hook(ll.VARIANTS[variant])).__code__
    return f"{code.co_filename}:{code.co_firstlineno} {code.co_qualname}"
