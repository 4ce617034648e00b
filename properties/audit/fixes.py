"""Where to look: failures by the function that is most likely at fault, the simplest one first."""

from collections.abc import Mapping, Sequence

import lora_lite as ll
from properties.audit import documents
from properties.audit.evidence import Evidence
from properties.audit.report import Fix, Suspect
from properties.audit.tracing import Function, Tracer, function_of, suspect
from properties.judging.claim import load_claims
from properties.judging.outcome import HELD, Outcome


def simplicity(outcome: Outcome) -> tuple[bool, bool, float, int]:
    """Orders failures: drawn cases first, of them those that run on one layer, of them the smallest."""
    claim = load_claims()[outcome.claim]
    # A claim whose cases are whole models takes a share of the budget.
    return outcome.recipe is None, claim.slow, -claim.share, len(outcome.recipe or outcome.why)


def fixes(failures: Sequence[Outcome], evidence: Evidence, tracer: Tracer | None) -> list[Fix]:
    """By what a method's failing tests and all passing tests ran; of each method the simplest first."""
    tests_of = tracer.tests_of() if tracer else {}
    passed = {outcome.nodeid for outcome in evidence.outcomes if outcome.state == HELD}
    found = []
    for method in dict.fromkeys(failure.method for failure in failures):
        own = [failure for failure in failures if failure.method == method]
        for place, together in _by_place(own, passed, tests_of).items():
            together.sort(key=simplicity)
            suspects = [Suspect(place, 1.0, "")] if place else []
            stages = list(dict.fromkeys(failure.stage for failure in together))
            found.append(Fix(method, suspects, stages, together))
    return sorted(found, key=lambda fix: (fix.method is None, fix.method or "", simplicity(fix.failures[0])))


def _by_place(
    failures: Sequence[Outcome], passed: set[str], tests_of: Mapping[Function, set[str]]
) -> dict[str, list[Outcome]]:
    """One method's failures, of one or more faults: what the strongest suspect does not explain is looked at
    again.
    """
    method = failures[0].method
    hook = None if method is None else hook_of(method)
    # Where the variant is a user's, so is the fault: lora_lite is judged with its own.
    users = method is not None and hook is None
    # What runs compiled or in another process leaves no trace of the hook, and so points nowhere.
    blind = [f for f in failures if hook and f.recipe is None and f.nodeid not in tests_of.get(hook, ())]
    own = [f for f in failures if f not in blind] or blind
    found: dict[str, list[Outcome]] = {}
    while own:
        where = None if users else suspect(tests_of, {f.nodeid for f in own}, passed, hook)
        explained = [f for f in own if where is None or f.nodeid in tests_of.get(where, ())] or own
        found.setdefault(str(where) if where else _place(method), []).extend(explained)
        own = [f for f in own if f not in explained]
    first = next(iter(found.values()))
    first += [f for f in blind if f not in first]
    return found


def hook_of(variant: str) -> Function | None:
    """The variant's own hook, where lora_lite holds it."""
    return function_of(getattr(ll.VARIANTS[variant], documents.hook(ll.VARIANTS[variant])))


def _place(variant: str | None) -> str:
    """A user's variant lies in a file of the user's."""
    if variant is None:
        return ""
    code = getattr(ll.VARIANTS[variant], documents.hook(ll.VARIANTS[variant])).__code__
    return f"{code.co_filename}:{code.co_firstlineno} {code.co_qualname}"
