"""The references, opened: does the arXiv page carry the paper's title, is the file still there, is it still
the same file.

Without a network every link is UNCHECKED with the reason, never OK. Files of an installed peft are compared
offline.
"""

import html
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import lora_lite as ll
from properties.audit.report import Link

OK, WRONG_TITLE, GONE, DRIFT, MATCH, UNCHECKED = "OK", "WRONG TITLE", "GONE", "DRIFT", "MATCH", "UNCHECKED"
GOOD = (OK, MATCH)
NOT_ASKED = "no network was asked for; open it with pytest --online"
SECONDS = 15.0

PAPER, PINNED, TODAY, INSTALLED = "paper", "file at its revision", "file today", "file installed"


@dataclass(frozen=True)
class Sites:
    """Where papers and files are served; a test serves them itself."""

    papers: str = "https://arxiv.org/abs/"
    files: str = "https://raw.githubusercontent.com/"


def expected(variants: Iterable[str], sites: Sites = Sites()) -> list[Link]:
    """Every link of these variants' references, unchecked; one that several variants share is there once."""
    found: dict[tuple[str, str], Link] = {}
    for name in variants:
        for kind, what, url in _links_of(ll.VARIANTS[name].reference, sites):
            known = found.setdefault((kind, url), Link([], kind, what, url, UNCHECKED, NOT_ASKED))
            known.variants.append(name)
    return list(found.values())


def _links_of(reference: ll.Reference | None, sites: Sites) -> list[tuple[str, str, str]]:
    if reference is None:
        return []
    links = [(PAPER, f"arXiv:{reference.arxiv}", f"{sites.papers}{reference.arxiv}")]
    if (code := reference.code) is not None:
        at = f"{sites.files}{code.repository}"
        links.append(
            (PINNED, f"{code.repository} {code.path} at {code.revision}", f"{at}/{code.revision}/{code.path}")
        )
        links.append((TODAY, f"{code.repository} {code.path} today", f"{at}/HEAD/{code.path}"))
        if code.repository == "huggingface/peft":
            links.append((INSTALLED, f"peft {code.path} as installed", code.path.removeprefix("src/")))
    return links


def checked(link: Link, *, seconds: float = SECONDS) -> Link:
    """The link with what opening it gave."""
    reference = ll.VARIANTS[link.variants[0]].reference
    assert reference is not None, f"{link.what}: no variant refers to it"
    recorded = reference.code.sha256 if reference.code is not None else None
    if link.kind == INSTALLED:
        return _installed(link, reference)
    by_title = partial(title_status, known=reference.titles)
    judge: Callable[[bytes], tuple[str, str]] = (
        by_title if link.kind == PAPER else partial(hash_status, recorded=recorded)
    )
    status, why = _opened(link.url, judge, seconds)
    return replace(link, status=status, why=why)


def _opened(url: str, judge: Callable[[bytes], tuple[str, str]], seconds: float) -> tuple[str, str]:
    request = urllib.request.Request(url, headers={"User-Agent": "lora-lite audit"})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return judge(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return (GONE if error.code in (404, 410) else UNCHECKED), f"the server answered {error.code}"
    except (
        OSError,
        ValueError,
        HTTPException,
    ) as error:  # no network, no such host, a time-out, half an answer
        return UNCHECKED, f"{type(error).__name__}: {getattr(error, 'reason', error)}"


def title_status(page: bytes, known: Sequence[str]) -> tuple[str, str]:
    """Whether an arXiv page carries one of the titles that the paper is known under."""
    text = page.decode("utf-8", "replace")
    found = re.search(r'<meta\s+name="citation_title"\s+content="([^"]*)"', text)
    if found is None:
        return UNCHECKED, "the page states no citation_title"
    title = _folded(html.unescape(found[1]))
    if title in [_folded(one) for one in known]:
        return OK, ""
    return WRONG_TITLE, f"the page says {html.unescape(found[1])!r}, known are {', '.join(map(repr, known))}"


def _folded(title: str) -> str:
    return " ".join(title.split()).casefold()


def hash_status(body: bytes, recorded: str | None) -> tuple[str, str]:
    """Whether a file is the one whose hash was recorded."""
    found = sha256(body).hexdigest()
    if recorded is None:
        return OK, f"it is there; no hash was recorded, today's is {found}"
    return (MATCH, "") if found == recorded else (DRIFT, f"its hash is {found}, recorded was {recorded}")


def _installed(link: Link, reference: ll.Reference) -> Link:
    """peft's file on this machine, where it is of the recorded release."""
    code = reference.code
    assert code is not None, link.what
    try:
        peft = distribution("peft")
    except PackageNotFoundError:
        return replace(link, why="peft is not installed: pip install 'lora-lite[peers]'")
    if f"v{peft.version}" != code.revision:
        return replace(link, why=f"peft {peft.version} is installed, recorded was {code.revision}")
    path: Any = peft.locate_file(link.url)
    if not path.is_file():
        return replace(link, status=GONE, why=f"peft {peft.version} has no {link.url}")
    status, why = hash_status(path.read_bytes(), code.sha256)
    return replace(link, status=status, why=why)


def merged(records: Iterable[dict[str, Any]], variants: Iterable[str]) -> list[Link]:
    """Every link of these variants: as a test has checked it in this run, else what can be told offline."""
    known = {(record["kind"], record["url"]): Link(**record) for record in records}
    return [
        known.get((link.kind, link.url)) or (checked(link) if link.kind == INSTALLED else link)
        for link in expected(variants)
    ]
