"""From what was gathered to the report: outcomes, verdicts, what must be fixed and what should be added."""

from collections.abc import Sequence
from dataclasses import replace

import lora_lite as ll
from properties.audit import documents, links, missing, worth
from properties.audit.evidence import Evidence
from properties.audit.fixes import fixes
from properties.audit.places.remember import figures
from properties.audit.report import Block, Library, Portrait, Provenance, ReferenceFact, Report
from properties.audit.settle import settled
from properties.audit.sight import Worth
from properties.audit.tracing import Tracer
from properties.audit.verdict import RULE, stages_of, verdict_of
from properties.audit.wording import counted
from properties.judging.claim import load_claims
from properties.judging.outcome import BROKEN, CRASHED, DECLARED, HELD, NOT_APPLICABLE, NOT_JUDGED, Outcome
from properties.mutation.score import stays
from strategies.options import BUILT_IN


def judge(
    evidence: Evidence, tracer: Tracer | None, provenance: Provenance, variants: Sequence[str]
) -> Report:
    """The whole report of a run about these variants, whatever came of it."""
    load_claims()
    blocks = [_block(name, evidence, provenance.narrowed) for name in variants]
    library = settled(evidence.outcomes, None, provenance.narrowed)
    failed = [o for outcomes in (*(b.outcomes for b in blocks), library) for o in outcomes if o.failed]
    probe = [record for o in evidence.outcomes for record in o.shown.get("probe", [])]
    verdict, reason = verdict_of(library)
    matrix = evidence.matrix.rows if evidence.matrix else []
    report = Report(
        provenance=provenance,
        rule=RULE,
        blocks=blocks,
        library=Library(stages_of(library), library, verdict, reason),
        left_out=[name for name in ll.VARIANTS if name not in variants],
        must_fix=fixes(failed, evidence, tracer),
        suite=evidence.failures,
        skipped=evidence.skipped,
        nice_to_have=[],
        must_add=[],
        claims=worth.worths(evidence.outcomes, matrix),
        mutation=worth.mutation(evidence, variants),
        mutants=worth.mutant_rows(evidence.rows),
        matrix=worth.mutant_rows(matrix),
        gaps=worth.gaps(tracer, provenance.narrowed),
        probe=worth.probed(probe),
        probe_records=probe,
        capabilities=[cell for block in blocks for cell in _capabilities(block)],
        speed=evidence.speed.rows if evidence.speed else [],
        speed_of=evidence.speed.of if evidence.speed else None,
        speed_costs=evidence.speed.costs if evidence.speed else [],
        links=links.merged(evidence.records.get("link", []), variants),
        localisation=figures(),
    )
    return replace(report, nice_to_have=_nice_to_have(report), must_add=_must_add(report, variants))


def _block(name: str, evidence: Evidence, narrowed: str) -> Block:
    variant = ll.VARIANTS[name]
    about = documents.of_variant(variant)
    outcomes = settled(evidence.outcomes, name, narrowed)
    lacking = missing.of(variant)
    verdict, reason = verdict_of(outcomes, [one.what for one in lacking if one.for_correct])
    shown = {what: figures for o in outcomes for what, figures in o.shown.items()}
    # What has killed a process would kill this one.
    laws = [] if any(o.state == CRASHED for o in outcomes) else missing.laws_of(variant)
    return Block(
        variant=name,
        title=about.title or variant.__name__,
        reference=reference_of(variant),
        portrait=Portrait(
            shown.get("case", ""),
            shown.get("tensors", []),
            shown.get("init", []),
            shown.get("identity", []),
        ),
        formula=about.formula or "not stated in the docstring",
        oracle_formula=documents.oracle_formula(name) or "no oracle",
        source=documents.source_of(variant),
        oracle_source=documents.oracle_source(name),
        identity=about.sections.get("Identity at init", "not stated in the docstring"),
        deviations=about.sections.get("Deviations", "none stated in the docstring"),
        stages=stages_of(outcomes),
        outcomes=outcomes,
        could_add=[*(f"{one.what}: {one.remedy}" for one in lacking), *laws],
        verdict=verdict,
        reason=reason,
    )


# What the table says of a claim that a capability rests on.
SHOWS = {HELD: "yes", DECLARED: "declared otherwise", BROKEN: "BUGGY", CRASHED: "BUGGY", NOT_APPLICABLE: "–"}


def _capabilities(block: Block) -> list[dict[str, str]]:
    """One cell for each capability that claims declare: the worst of what they came to."""
    found, claims = dict[str, list[Outcome]](), load_claims()
    for outcome in block.outcomes:
        if (name := claims[outcome.claim].capability) is not None:
            found.setdefault(name, []).append(outcome)
    order = (CRASHED, BROKEN, NOT_JUDGED, DECLARED, HELD, NOT_APPLICABLE)
    worst = {name: min(own, key=lambda o: order.index(o.state)) for name, own in found.items()}
    return [
        {"variant": block.variant, "name": name, "outcome": SHOWS.get(o.state, f"not judged: {o.why}")}
        for name, o in worst.items()
    ]


def reference_of(variant: type[ll.Variant]) -> ReferenceFact:
    """What the variant declares, and which oracle re-derives it."""
    oracle = documents.oracle_module(variant.name)
    if variant.reference is None:
        return ReferenceFact("NO_REFERENCE", "HIGH", oracle=oracle)
    known = variant.reference
    fact = ReferenceFact("HAS_REFERENCE", "none", known.arxiv, list(known.titles), oracle=oracle)
    if (code := known.code) is None:
        return fact
    return replace(
        fact, repository=code.repository, path=code.path, revision=code.revision, sha256=code.sha256
    )


def _nice_to_have(report: Report) -> list[str]:
    """Computed; nothing of it makes a variant wrong."""
    found = [
        f"{w.claim}: tolerance {w.tolerance} ({_sides(w)})"
        for w in report.claims
        if w.tolerance.startswith("too")
    ]
    if report.mutation.matrix:
        seconds = [w.claim for w in report.claims if w.kills and not w.alone]
        idle = [w.claim for w in report.claims if w.tried and not w.kills]
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
        of = counted(len(report.links), "link")
        found.append(f"UNCHECKED: {len(unchecked)} of {of}; open them with pytest --online")
    return found


def _sides(w: Worth) -> str:
    signal = f", faintest mutant {w.faintest} at {min(w.signal.values()):.3g}" if w.signal else ""
    return f"noise {max(w.noise.values(), default=0):.2f}{signal}"


def _must_add(report: Report, variants: Sequence[str]) -> list[str]:
    """What would close the gaps."""
    found = [
        f"a claim that notices {m.name} on {', '.join(m.survives_on)}: {m.breaks}"
        for m in report.mutants
        if m.survives_on
    ]
    found += [f"{b.variant}: {what}" for b in report.blocks for what in b.could_add]
    open_ = [file for file in report.gaps.files if file.missing and not report.gaps.why]
    if open_:
        places = counted(sum(len(file.missing) for file in open_), "place")
        files = counted(len(open_), "file")
        found.append(f"tests that run {places} in {files} of lora_lite, listed under Gaps")
    if report.gaps.untouched and not report.gaps.why:
        functions = counted(report.gaps.functions, "function")
        found.append(f"a mutant in each of {len(report.gaps.untouched)} of {functions} that none changes")
    # Only over all variants and mutants can it be said that a claim alone catches nothing.
    if report.mutation.matrix and {*BUILT_IN} <= {*variants}:
        found += [
            f"a sentence in properties/mutation/stays.txt on why {w.claim} stays, which alone catches"
            " nothing; or it goes"
            for w in report.claims
            if w.tried and not w.alone and w.claim not in stays()
        ]
    return found
