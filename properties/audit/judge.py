"""From what was gathered to the report: columns, verdicts by a printed rule, what must be fixed and what
should be added.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lora_lite as ll
from properties.audit import documents, links, worth
from properties.audit.columns import columns_of
from properties.audit.evidence import Evidence
from properties.audit.fixes import fixes, names
from properties.audit.report import (
    BUGGY,
    CORRECT,
    FAILS,
    OK,
    PARTIAL,
    UNMEASURED,
    Block,
    DtypeFact,
    Facts,
    Failure,
    Finding,
    InitFact,
    Provenance,
    ReferenceFact,
    Report,
    TensorFact,
    Worth,
)
from properties.audit.tracing import Tracer
from properties.audit.wording import counted
from properties.judging.claim import PROPERTIES, Property, load_properties
from properties.mutation.witnesses import WITNESSES
from strategies.options import BUILT_IN

RULE = [
    (
        "BUGGY: a property does not hold or crashes for the variant, or one of the facts measured of it"
        " (params, init, dtype, forward, gradient, round trip) fails. A failing claim about the library as a"
        " whole counts for the variants that its message names."
    ),
    (
        "PARTIAL: nothing fails, but a column or a property that is about the variant was not measured in"
        " this run (deselected, skipped, refused), there is no reference or no oracle, or a claim about the"
        " whole library fails and names no variant."
    ),
    "CORRECT: every column and every property was measured, and everything holds.",
    (
        "The report as a whole: BUGGY where a variant is or a claim about the library fails; PARTIAL where a"
        " variant is, a claim about the library was not run, or a test that is no property fails, so that the"
        " suite itself is in doubt; else CORRECT."
    ),
]


def judge(
    evidence: Evidence, tracer: Tracer | None, provenance: Provenance, variants: Sequence[str]
) -> Report:
    """The whole report of a run about these variants, whatever came of it."""
    load_properties()
    # A mutant that survives tells of what to add. What else is no property tells of the suite, and of no
    # variant.
    survivors = {f"[{row.mutant}]" for row in evidence.rows if row.survivors}
    told = [
        f
        for f in evidence.failures
        if f.claim != worth.MUTATION or f.nodeid[f.nodeid.find("[") :] not in survivors
    ]
    failures = [f for f in told if f.kind == "property"]
    probe = evidence.records.get("probe", [])
    report = Report(
        provenance=provenance,
        rule=RULE,
        blocks=[_block(name, evidence, failures) for name in variants],
        library=_library(evidence, failures),
        must_fix=fixes(failures, evidence, variants, tracer),
        suite=[f for f in told if f.kind != "property"],
        skipped=evidence.skipped,
        nice_to_have=[],
        must_add=[],
        properties=worth.worths(evidence.measured, evidence.rows, evidence.ran, failures),
        mutation=worth.mutation(evidence, variants),
        mutants=worth.mutant_rows(evidence.rows),
        gaps=worth.gaps(tracer, provenance.narrowed),
        probe=worth.probed(probe),
        probe_records=probe,
        capabilities=_capabilities(evidence.records.get("capability", []), variants),
        speed=evidence.speed.rows if evidence.speed else [],
        speed_of=evidence.speed.of if evidence.speed else None,
        links=links.merged(evidence.records.get("link", []), variants),
    )
    return replace(report, nice_to_have=_nice_to_have(report), must_add=_must_add(report, variants))


# Verdicts


def _block(name: str, evidence: Evidence, failures: list[Failure]) -> Block:
    variant = ll.VARIANTS[name]
    about = documents.of_variant(variant)
    facts = facts_from([record for record in evidence.records.get("facts", []) if record["variant"] == name])
    measured = [m for m in evidence.measured if m.variant == name]
    own = [f for f in failures if f.variant == name or (f.variant is None and names(f.message, name))]
    unrun = [p.name for p in applicable(name) if (p.name, name) not in evidence.ran]
    reference = reference_of(variant)
    columns = columns_of(reference, facts, measured, own, unrun)
    unclear = [
        f.claim for f in failures if f.variant is None and not any(names(f.message, v) for v in ll.VARIANTS)
    ]
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


def _verdict(columns: dict[str, Finding], unrun: list[str], unclear: list[str]) -> tuple[str, str]:
    """The rule that RULE prints."""
    # The identity before all: what breaks it breaks much else.
    ordered = sorted(columns, key=lambda name: name != "init")
    failing = [f"{name}: {columns[name].why}" for name in ordered if columns[name].state == FAILS]
    if failing:
        return BUGGY, "; ".join(failing)
    open_ = [
        f"{state}:"
        f" {', '.join(name.replace('_', ' ') for name, found in columns.items() if found.state == state)}"
        for state in dict.fromkeys(found.state for found in columns.values())
        if state != OK
    ]
    if unrun:
        open_.append(f"{counted(len(unrun), 'property')} not run")
    if unclear:
        open_.append(f"{counted(len(unclear), 'claim')} about the whole library failed")
    return (PARTIAL, "; ".join(open_)) if open_ else (CORRECT, "every column measured, every property holds")


def _library(evidence: Evidence, failures: list[Failure]) -> Finding:
    """The claims that are about no variant in particular."""
    failing = [f.claim for f in failures if f.variant is None]
    if failing:
        return Finding(FAILS, None, ", ".join(failing))
    facts = [p.name for p in PROPERTIES.values() if p.cases is None]
    run = [name for name in facts if (name, None) in evidence.ran]
    if len(run) < len(facts):
        return Finding(
            UNMEASURED,
            None,
            f"{len(facts) - len(run)} of {counted(len(facts), 'claim')} about the library not run",
        )
    return Finding(OK, None, f"none of {counted(len(run), 'claim')} failed")


# The rest

# What a user wants to know beside the formula, in the order of the table; a test that shows more adds its
# column.
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
    return [
        {"variant": v, "name": n, "outcome": found.get((v, n), "not measured")}
        for v in variants
        for n in names
    ]


def reference_of(variant: type[ll.Variant]) -> ReferenceFact:
    """What the variant declares, and which oracle re-derives it."""
    oracle = documents.oracle_module(variant.name)
    if variant.reference is None:
        return ReferenceFact("NO_REFERENCE", "HIGH", oracle=oracle)
    made = ReferenceFact(
        "HAS_REFERENCE", "none", variant.reference.arxiv, list(variant.reference.titles), oracle=oracle
    )
    if (code := variant.reference.code) is None:
        return made
    return replace(
        made, repository=code.repository, path=code.path, revision=code.revision, sha256=code.sha256
    )


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
    found = [
        f"{w.claim}: tolerance {w.tolerance} ({_sides(w)})"
        for w in report.properties
        if w.tolerance.startswith("too")
    ]
    if report.mutation.complete:
        seconds = [w.claim for w in report.properties if w.kills and not w.alone]
        idle = [w.claim for w in report.properties if not w.kills]
        found += [f"caught by others too is all that these catch: {', '.join(seconds)}"] if seconds else []
        found += [f"nothing of the catalogue is caught by: {', '.join(idle)}"] if idle else []
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
        found.append(
            f"UNCHECKED: {len(unchecked)} of {counted(len(report.links), 'link')}; open them with pytest"
            " --online"
        )
    return found


def _sides(w: Worth) -> str:
    signal = f", faintest mutant {w.faintest} at {min(w.signal.values()):.3g}" if w.signal else ""
    return f"noise {max(w.noise.values(), default=0):.2f}{signal}"


def _must_add(report: Report, variants: Sequence[str]) -> list[str]:
    """What would close the gaps."""
    found = [
        f"a property that notices {m.name} on {', '.join(m.survives_on)}: {m.breaks}"
        for m in report.mutants
        if m.survives_on
    ]
    open_ = [file for file in report.gaps.files if file.missing and not report.gaps.why]
    if open_:
        places = counted(sum(len(file.missing) for file in open_), "place")
        found.append(
            f"tests that run {places} in {counted(len(open_), 'file')} of lora_lite, listed under Gaps"
        )
    if report.gaps.untouched and not report.gaps.why:
        functions = counted(report.gaps.functions, "function")
        found.append(f"a mutant in each of {len(report.gaps.untouched)} of {functions} that none changes")
    # Only over all variants and mutants can it be said that a property alone catches nothing.
    if report.mutation.complete and {*BUILT_IN} <= {*variants}:
        found += [
            f"a sentence in properties/mutation/witnesses.py on why {w.claim} stays, which alone catches"
            " nothing; or it goes"
            for w in report.properties
            if not w.alone and w.claim not in WITNESSES
        ]
    return found
