"""From what was gathered to the report: columns, verdicts by a printed rule, what must be fixed and what should be added."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lora_lite as ll
from properties.audit import documents, links, worth
from properties.audit.evidence import Evidence
from properties.audit.measure import PARTS
from properties.audit.report import (
    BUGGY,
    CORRECT,
    FAILS,
    NO_REFERENCE,
    OK,
    PARTIAL,
    UNMEASURED,
    Block,
    DtypeFact,
    Facts,
    Failure,
    Finding,
    Fix,
    InitFact,
    Measured,
    Provenance,
    ReferenceFact,
    Report,
    TensorFact,
    Worth,
)
from properties.audit.tracing import Function, Tracer, function_of, suspect
from properties.registry import PROPERTIES, Property, load_properties

RULE = [
    "BUGGY: a property does not hold or crashes for the variant, or one of the facts measured of it (params, init, dtype, "
    "forward, gradient, round trip) fails. A failing claim about the library as a whole counts for the variants that its "
    "message names.",
    "PARTIAL: nothing fails, but a column or a property that is about the variant was not measured in this run (deselected, "
    "skipped, refused), there is no reference or no oracle, or a claim about the whole library fails and names no variant.",
    "CORRECT: every column and every property was measured, and everything holds.",
]

COLUMNS = ("has_ref", "params", "init", "dtype", "forward", "gradient", "round_trip", "other")

# Which column a property speaks for: by its name, else by the file that it stands in.
_BY_CLAIM = {
    "init_agrees_with_the_oracle": "init",
    "attach_writes_every_entry": "init",
    "the_tensors_are_as_the_paper_and_the_config_say": "params",
    "first_gradients_are_as_declared": "params",
}
_BY_FILE = {
    "test_forward": "forward",
    "test_peft": "forward",
    "test_merge": "forward",
    "test_laws": "forward",
    "test_identity": "dtype",
    "test_gradient": "gradient",
    "test_checkpoint": "round_trip",
    "test_files": "round_trip",
}


def column_of(claim: str) -> str:
    """The column of the summary that this property speaks for."""
    file = PROPERTIES[claim].check.__module__.rpartition(".")[2] if claim in PROPERTIES else ""
    if claim in PARTS:
        return PARTS[claim][0]
    return _BY_CLAIM.get(claim) or _BY_FILE.get(file, "other")


def judge(evidence: Evidence, tracer: Tracer | None, provenance: Provenance, variants: Sequence[str]) -> Report:
    """The whole report of a run about these variants, whatever came of it."""
    load_properties()
    # A mutant that survives tells of the suite and not of the library: it is in the list of what to add.
    failures = [f for f in evidence.failures if f.claim != "mutant_is_killed"]
    blocks = [_block(name, evidence, failures) for name in variants]
    library = _library(evidence, failures)
    properties = worth.worths(evidence.measured, evidence.rows, [claim for claim, _ in evidence.ran])
    report = Report(
        provenance=provenance,
        rule=RULE,
        blocks=blocks,
        library=library,
        must_fix=_fixes(failures, evidence, variants, tracer),
        nice_to_have=[],
        must_add=[],
        properties=properties,
        mutants=worth.mutant_rows(evidence.rows),
        gaps=worth.gaps(tracer),
        probe=worth.probed(evidence.records.get("probe", [])),
        probe_records=evidence.records.get("probe", []),
        capabilities=_capabilities(evidence.records.get("capability", []), variants),
        speed=evidence.records.get("speed", []),
        links=links.merged(evidence.records.get("link", []), variants),
    )
    return replace(report, nice_to_have=_nice_to_have(report), must_add=_must_add(report))


# Verdicts


def _block(name: str, evidence: Evidence, failures: list[Failure]) -> Block:
    variant = ll.VARIANTS[name]
    about = documents.of_variant(variant)
    facts = facts_from([record for record in evidence.records.get("facts", []) if record["variant"] == name])
    measured = [m for m in evidence.measured if m.variant == name]
    own = [f for f in failures if f.variant == name or (f.variant is None and names(f.message, name))]
    unrun = [p.name for p in applicable(name) if (p.name, name) not in evidence.ran]
    reference = reference_of(variant)
    columns = {column: _column(column, facts, measured, own, unrun) for column in COLUMNS[1:]}
    columns = {"has_ref": _has_reference(reference), **columns}
    unclear = [f.claim for f in failures if f.variant is None and not any(names(f.message, v) for v in ll.VARIANTS)]
    verdict, reason = _verdict(columns, unrun, unclear)
    return Block(
        variant=name,
        title=about.title or variant.__name__,
        reference=reference,
        facts=facts,
        formula=about.formula or "not stated in the docstring",
        oracle_formula=documents.oracle_formula(name) or "no oracle",
        source=documents.source_of(variant),
        oracle_source=documents.oracle_source(name),
        identity=about.sections.get("Identity at init", "not stated in the docstring"),
        deviations=about.sections.get("Deviations", "none stated in the docstring"),
        columns=columns,
        properties=measured,
        unrun=unrun,
        verdict=verdict,
        reason=reason,
    )


def applicable(variant: str) -> list[Property]:
    """The properties with drawn cases that are about this variant."""
    return [p for p in PROPERTIES.values() if p.cases is not None and p.applies(ll.VARIANTS[variant])]


def names(message: str, variant: str) -> bool:
    """Whether a failure's message speaks of this variant."""
    return re.search(rf"\b{re.escape(variant)}\b", message) is not None


def _column(column: str, facts: Facts | None, measured: list[Measured], failures: list[Failure], unrun: list[str]) -> Finding:
    """The worst of the facts and the properties that speak for it."""
    found = _facts_of(column, facts)
    for m in measured:
        if column_of(m.claim) == column and m.examples is not None:
            found.append(Finding(OK, max(m.worst.values(), default=None)))
    found += [Finding(FAILS, None, f.claim) for f in failures if column_of(f.claim) == column]
    figure = max((f.figure for f in found if f.figure is not None), default=None)
    for state in (FAILS, NO_REFERENCE, UNMEASURED):
        why = [f.why for f in found if f.state == state]
        if why:
            return Finding(state, figure, why[0].splitlines()[0] if why[0] else "")
    missing = [claim for claim in unrun if column_of(claim) == column]
    if not found:
        return Finding(UNMEASURED, None, "not measured in this run")
    return Finding(OK, figure, f"{len(missing)} of its properties not run" if missing else "")


def _facts_of(column: str, facts: Facts | None) -> list[Finding]:
    """What speaks for this column beside properties; a column of properties alone has none."""
    if column == "other":
        return []
    found: Any = [] if facts is None else getattr(facts, column)
    if isinstance(found, Finding):
        return [found]
    return [replace(fact.found, why=f"{_label(fact)}: {fact.found.why}") for fact in found] or [
        Finding(UNMEASURED, None, "not measured in this run")
    ]


def _label(fact: TensorFact | InitFact | DtypeFact) -> str:
    if isinstance(fact, DtypeFact):
        return f"{fact.base} × {fact.adapter}"
    return fact.name if isinstance(fact, TensorFact) else fact.claim


def _has_reference(reference: ReferenceFact) -> Finding:
    if reference.verdict == "HAS_REFERENCE" and reference.oracle:
        return Finding(OK)
    return Finding(NO_REFERENCE, None, "no reference" if reference.oracle else "no reference or no oracle")


def _verdict(columns: dict[str, Finding], unrun: list[str], unclear: list[str]) -> tuple[str, str]:
    """The rule that RULE prints."""
    failing = [f"{name}: {found.why}" for name, found in columns.items() if found.state == FAILS]
    if failing:
        return BUGGY, "; ".join(failing)
    open_ = [
        f"{state}: {', '.join(name.replace('_', ' ') for name, found in columns.items() if found.state == state)}"
        for state in dict.fromkeys(found.state for found in columns.values())
        if state != OK
    ]
    if unrun:
        open_.append(f"{len(unrun)} of its properties not run")
    if unclear:
        open_.append(f"{len(unclear)} claims about the whole library fail")
    return (PARTIAL, "; ".join(open_)) if open_ else (CORRECT, "every column measured, every property holds")


def _library(evidence: Evidence, failures: list[Failure]) -> Finding:
    """The claims that are about no variant in particular."""
    failing = [f.claim for f in failures if f.variant is None]
    if failing:
        return Finding(FAILS, None, ", ".join(failing))
    facts = [p.name for p in PROPERTIES.values() if p.cases is None]
    run = [name for name in facts if (name, None) in evidence.ran]
    if len(run) < len(facts):
        return Finding(UNMEASURED, None, f"{len(facts) - len(run)} of {len(facts)} claims about the library not run")
    return Finding(OK, None, f"{len(run)} claims hold")


# Where to look


def _fixes(failures: list[Failure], evidence: Evidence, variants: Sequence[str], tracer: Tracer | None) -> list[Fix]:
    """Failures by the function that is most likely at fault: by what a variant's failing tests and all passing tests ran."""
    tests_of = tracer.tests_of() if tracer else {}
    found: dict[tuple[str | None, str], list[Failure]] = {}
    for variant in dict.fromkeys(f.variant for f in failures):
        own = [f for f in failures if f.variant == variant]
        # Two faults may lie under one variant's failures: what the strongest suspect does not explain is looked at again.
        while own:
            hook = _hook(own[0], variants)
            # Where the variant is a user's, so is the fault: lora_lite is judged with its own.
            users = variant is not None and hook is None
            where = None if users else suspect(tests_of, {f.nodeid for f in own}, evidence.passed, hook)
            explained = [f for f in own if where is None or f.nodeid in tests_of.get(where, ())] or own
            place = str(where) if where else _place(variant) or own[0].nodeid
            found.setdefault((variant, place), []).extend(explained)
            own = [f for f in own if f not in explained]
    return [
        Fix(variant, place, list(dict.fromkeys(column_of(f.claim) for f in together)), sorted(together, key=_simplicity))
        for (variant, place), together in sorted(found.items(), key=lambda fix: (fix[0][0] is None, fix[0]))
    ]


def _simplicity(failure: Failure) -> tuple[bool, bool, int]:
    return failure.kind != "property", failure.recipe is None, len(failure.recipe or failure.message)


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


# The rest

# What a user wants to know beside the formula, in the order of the table; a test that shows more adds its column.
CAPABILITIES = ("compile", "autocast", "checkpointing", "DDP", "FSDP2", "8-bit", "int8", "deepcopy", "merge")


def _capabilities(records: Sequence[dict[str, str]], variants: Sequence[str]) -> list[dict[str, str]]:
    """One cell for each variant and capability: the worst of what was shown of it."""
    if not records:
        return []
    order = ("BUGGY", "refused", "not measured", "yes")
    found: dict[tuple[str, str], str] = {}
    for record in records:
        key = record["variant"], record["name"]
        both = (found.get(key, record["outcome"]), record["outcome"])
        found[key] = min(both, key=lambda outcome: order.index(outcome.partition(":")[0]))
    names = [*CAPABILITIES, *sorted({record["name"] for record in records} - set(CAPABILITIES))]
    return [{"variant": v, "name": n, "outcome": found.get((v, n), "not measured")} for v in variants for n in names]


def reference_of(variant: type[ll.Variant]) -> ReferenceFact:
    """What the variant declares, and which oracle re-derives it."""
    oracle = documents.oracle_module(variant.name)
    if variant.reference is None:
        return ReferenceFact("NO_REFERENCE", "HIGH", oracle=oracle)
    made = ReferenceFact("HAS_REFERENCE", "none", variant.reference.arxiv, list(variant.reference.titles), oracle=oracle)
    if (code := variant.reference.code) is None:
        return made
    return replace(made, repository=code.repository, path=code.path, revision=code.revision, sha256=code.sha256)


def facts_from(records: Sequence[dict[str, Any]]) -> Facts | None:
    """The records of measure(), put together again; None where there are none."""
    if not records:
        return None
    kinds: dict[str, Any] = {"params": TensorFact, "init": InitFact, "dtype": DtypeFact}
    facts = Facts(records[0]["variant"], records[0]["case"], records[0]["identity"])
    for record in records:
        part, value = record["part"], record["value"]
        if part in kinds:
            value = [kinds[part](**{**entry, "found": Finding(**entry["found"])}) for entry in value]
        else:
            value = Finding(**value)
        facts = replace(facts, **{part: value})
    return facts


def _nice_to_have(report: Report) -> list[str]:
    """Computed; nothing of it makes a variant wrong."""
    found = [f"{w.claim}: tolerance {w.tolerance} ({_sides(w)})" for w in report.properties if w.tolerance.startswith("too")]
    if report.mutants:
        seconds = [w.claim for w in report.properties if w.kills and not w.alone]
        idle = [w.claim for w in report.properties if not w.kills]
        found += [f"{len(seconds)} properties catch nothing that no other catches"] if seconds else []
        found += [f"{len(idle)} properties catch nothing of the catalogue: {', '.join(idle)}"] if idle else []
    share = report.gaps.share
    if share is not None and share < worth.COVERAGE:
        found.append(f"coverage of lora_lite is {share:.1%}, wanted {worth.COVERAGE:.0%}")
    found += [
        f"{b.variant}: the reference file {b.reference.path} has no recorded hash"
        for b in report.blocks
        if b.reference.path and b.reference.sha256 is None
    ]
    unchecked = [link for link in report.links if link.status == links.UNCHECKED]
    wrong = [link for link in report.links if link.status not in (*links.GOOD, links.UNCHECKED)]
    found += [f"{link.what}: {link.status}, {link.why}" for link in wrong]
    if unchecked:
        found.append(f"{len(unchecked)} of {len(report.links)} links are UNCHECKED: open them with pytest --online")
    return found


def _sides(w: Worth) -> str:
    signal = f", faintest mutant {w.faintest} at {min(w.signal.values()):.3g}" if w.signal else ""
    return f"noise {max(w.noise.values(), default=0):.2f}{signal}"


def _must_add(report: Report) -> list[str]:
    """What would close the gaps."""
    found = [
        f"a property that notices {m.name} on {', '.join(m.survives_on)}: {m.breaks}" for m in report.mutants if m.survives_on
    ]
    open_ = [file for file in report.gaps.files if file.missing]
    if open_:
        places = sum(len(file.missing) for file in open_)
        found.append(f"tests that run {places} places in {len(open_)} files of lora_lite, listed under Gaps")
    if report.gaps.untouched:
        found.append(f"a mutant in each of {len(report.gaps.untouched)} functions of {report.gaps.functions} that none changes")
    return found
