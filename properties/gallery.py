"""python -m properties.gallery: silent failures from the public record, and what the suite prints of each.

Writes gallery.md from gallery.toml; what is printed comes of injecting the mutant and judging one claim that
notices it, on derandomised examples.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from hypothesis import HealthCheck, settings

from properties.audit.inject import injected
from properties.judging.assertions import Violation
from properties.judging.claim import load_claims
from strategies.recipes import pasteable

PAGE = Path(__file__).parent / "gallery.md"
ISSUES = "https://github.com/"


@dataclass(frozen=True)
class Failure:
    """One failure as somebody had it: an entry of gallery.toml, which says what the fields are."""

    title: str
    mutant: str
    variant: str
    claim: str
    seen: str
    green: str
    record: list[str]


RECORD = [
    Failure(**entry) for entry in tomllib.loads(PAGE.with_suffix(".toml").read_text("utf-8"))["failure"]
]


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page, in Markdown."""
    head = (
        f"# {len(RECORD)} silent failures\n\n"
        "Each was somebody's. The loss falls, the file loads, and the answer is wrong. The command injects it"
        " into lora_lite,\nand the lines under it are what one of the claims that notice prints. Made by"
        " `python -m properties.gallery`.\n"
    )
    return "\n".join([head, *(entry(n, failure) for n, failure in enumerate(RECORD, 1))])


def entry(number: int, failure: Failure) -> str:
    """One failure: what is seen, why it stays unseen, who had it, and what the suite prints."""
    record = ", ".join(linked(place) for place in failure.record)
    return "\n".join(
        [
            f"## {number}. {failure.title}\n",
            fill(f"**What a user sees.** {failure.seen}", 120) + "\n",
            fill(f"**Why tests stay green.** {failure.green}", 120) + "\n",
            f"On record: {record}.\n",
            "```",
            f"$ pytest properties --variant {failure.variant} --mutant {failure.mutant}",
            f"{printed(failure)}\n```\n",
        ]
    )


def linked(place: str) -> str:
    """A link to an issue, by repository and number, or to a script beside the page."""
    repository, _, number = place.partition("#")
    return f"[{place}]({ISSUES}{repository}/issues/{number})" if number else f"[{place}]({place})"


def printed(failure: Failure) -> str:
    """What the claim says under the mutant. Raises LookupError where it says nothing."""
    made = load_claims()[failure.claim]
    how = settings(
        max_examples=100,
        derandomize=True,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with injected(failure.mutant):
        try:
            made.run(failure.variant, how)
        except Violation as violation:
            recipe = [f"recipe   {pasteable(violation.case)}"] if violation.case is not None else []
            return "\n".join([f"{failure.claim} [{failure.variant}]", str(violation), *recipe])
    raise LookupError(f"{failure.claim} does not notice {failure.mutant} on {failure.variant}")


def masked(text: str) -> str:
    """The text with every figure as #: they differ in their last digits from machine to machine."""
    return re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?|\b(inf|nan)\b", "#", text)


if __name__ == "__main__":
    main()
