"""Where to look: failures by the function that is most likely at fault, the simplest one first."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import lora_lite as ll
from properties.audit import documents
from properties.audit.evidence import Evidence
from properties.audit.places.localise import Line, Place, Ran, Statement, localise
from properties.audit.places.remember import memory
from properties.audit.report import Fix, Suspect
from properties.audit.tracing import SMALLEST, Function, Tracer, function_of, module_of, relative, statements
from properties.judging.claim import load_claims
from properties.judging.outcome import HELD, Outcome
from properties.oracles import ORACLES

# Of each fix the likeliest places, and of each place the likeliest lines.
PLACES, LINES = 3, 5


def simplicity(outcome: Outcome) -> tuple[bool, bool, float, int]:
    """Orders failures: drawn cases first, of them those that run on one layer, of them the smallest."""
    claim = load_claims()[outcome.claim]
    # A claim whose cases are whole models takes a share of the budget.
    return outcome.recipe is None, claim.slow, -claim.share, len(outcome.recipe or "")


def fixes(failures: Sequence[Outcome], evidence: Evidence, tracer: Tracer | None) -> list[Fix]:
    """By what a method's failing tests and all passing tests ran; of each method the simplest first."""
    traces = _Traces(tracer.lines_of() if tracer else {}, failures, evidence)
    found = []
    for method in dict.fromkeys(failure.method for failure in failures):
        own = [failure for failure in failures if failure.method == method]
        for suspects, together in _by_place(own, traces):
            together.sort(key=simplicity)
            stages = list(dict.fromkeys(failure.stage for failure in together))
            found.append(Fix(method, suspects, stages, together))
    return sorted(
        _shared(found), key=lambda fix: (fix.method is None, fix.method or "", simplicity(fix.failures[0]))
    )


def _shared(fixes: Sequence[Fix]) -> list[Fix]:
    """Where several methods lead to one place outside of their own files, the fault is the library's."""
    at: dict[str, list[Fix]] = {}
    for number, fix in enumerate(fixes):
        # What has no place is nobody else's.
        at.setdefault(fix.suspects[0].place if fix.suspects else str(number), []).append(fix)
    modules = {module_of(name) for name in ll.VARIANTS}
    found = []
    for place, own in at.items():
        if len(own) == 1 or place.partition(":")[0] in modules:
            found += own
            continue
        failures = sorted((failure for fix in own for failure in fix.failures), key=simplicity)
        stages = list(dict.fromkeys(failure.stage for failure in failures))
        found.append(Fix(None, own[0].suspects, stages, failures))
    return found


class _Traces:
    """What each failing and each passing test ran."""

    def __init__(
        self, lines: Mapping[str, frozenset[Line]], failures: Sequence[Outcome], evidence: Evidence
    ) -> None:
        self.lines = lines
        self.failing = {failure.nodeid: self.of(failure) for failure in failures}
        self.passing = [self.of(outcome) for outcome in evidence.outcomes if outcome.state == HELD]

    def of(self, outcome: Outcome) -> Ran:
        """Of a failing test that drew its cases, the smallest one's."""
        test = outcome.nodeid
        lines = self.lines.get(test + SMALLEST) or self.lines.get(test, frozenset())
        return Ran(outcome.claim, outcome.method, lines, outcome.stage, outcome.tensor)

    def runs(self, failure: Outcome, function: Function) -> bool:
        """Whether it leaves a trace of the function."""
        lines = self.failing[failure.nodeid].lines
        return any((function.path, line) in lines for line in range(function.body, function.last + 1))


@dataclass(frozen=True)
class _Known:
    """The statements that a method's fault may lie in."""

    statements: Mapping[Line, Statement]

    def reaches(self, ran: Ran, place: Place) -> bool:
        known = self.statements
        return any(known[line].function == place.function for line in ran.lines if line in known)


def _oracle_of(method: str | None) -> set[str]:
    """The functions of a method's oracle, which may stand in the method's own file: they judge."""
    return {getattr(function, "__qualname__", "") for function in ORACLES.get(method or "", ())}


def _by_place(failures: Sequence[Outcome], traces: _Traces) -> list[tuple[list[Suspect], list[Outcome]]]:
    """One method's failures, of one or more faults: what the likeliest place does not explain is looked at
    again.
    """
    method = failures[0].method
    hook = None if method is None else hook_of(method)
    module = None if method is None else module_of(method)
    # Where the variant is a user's, so is the fault: lora_lite is judged with its own.
    users = method is not None and hook is None
    oracle = _oracle_of(method) if users else set()
    known = _Known(
        {
            at: of
            for at, of in statements().items()
            if not users or (of.file == module and of.function.partition(" ")[2] not in oracle)
        }
    )
    # What runs compiled or in another process leaves no trace of the hook, and so points nowhere.
    blind = [f for f in failures if hook and f.recipe is None and not traces.runs(f, hook)]
    own = [f for f in failures if f not in blind] or blind
    unseen = {f.nodeid for f in blind if f not in own}
    left = {test: ran for test, ran in traces.failing.items() if test not in unseen}
    found: dict[str, tuple[list[Suspect], list[Outcome]]] = {}
    while own:
        ranked = localise(
            list(left.values()), traces.passing, known.statements, memory(), variant=method, module=module
        )
        mine = [traces.failing[f.nodeid] for f in own]
        # Claims about the library have a say on where; the place is one that the method's own lead to.
        ranked = [place for place in ranked if any(known.reaches(ran, place) for ran in mine)]
        explained = [f for f in own if not ranked or known.reaches(traces.failing[f.nodeid], ranked[0])]
        left = {test: ran for test, ran in left.items() if ranked and not known.reaches(ran, ranked[0])}
        suspects = [_shown(place) for place in ranked[:PLACES]] or _where_it_died(own)
        at = suspects[0].place if suspects else ""
        found.setdefault(at, (suspects, []))[1].extend(explained)
        own = [f for f in own if f not in explained]
    _, first = next(iter(found.values()))
    first += [f for f in blind if f not in first]
    return list(found.values())


def _shown(place: Place) -> Suspect:
    return Suspect(str(place), list(place.lines[:LINES]), round(place.score, 4), place.why)


def hook_of(variant: str) -> Function | None:
    """The variant's own hook, where lora_lite holds it."""
    return function_of(getattr(ll.VARIANTS[variant], documents.hook(ll.VARIANTS[variant])))


def _where_it_died(failures: Sequence[Outcome]) -> list[Suspect]:
    """Of processes that left no trace, the innermost frames in code that is judged, most frequent first."""
    known, found = statements(), Counter[tuple[str, int, str]]()
    for failure in failures:
        places = [(relative(frame.file), frame.line) for frame in failure.stack]
        inside = next((known[place] for place in places if place in known), None)
        if inside is not None:
            found[inside.file, inside.line, inside.function.partition(" ")[2]] += 1
    return [
        Suspect(f"{file}:{line} {name}", [line], round(count / found.total(), 4), {"stacks": count})
        for (file, line, name), count in found.most_common(PLACES)
    ]
