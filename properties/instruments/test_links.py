"""The checker of references, against a server that answers right, wrong, late or not at all."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import Any

import pytest

import lora_lite as ll
from properties.audit import links
from properties.audit.links import (
    DRIFT,
    GONE,
    MATCH,
    OK,
    UNCHECKED,
    WRONG_TITLE,
    Sites,
    checked,
    expected,
    merged,
)
from properties.audit.report import Link
from properties.plugin import pytest_ignore_collect

pytestmark = pytest.mark.instruments

TITLE = ll.VARIANTS["eva"].reference.titles[0]  # type: ignore[union-attr]  # a built-in variant has one
FILE = b"def forward(x): ...\n"


@dataclass
class Server:
    """Answers by path: (status, body, seconds that it takes). missing: bytes that are promised and not
    sent.
    """

    url: str = ""
    answers: dict[str, tuple[int, bytes, float]] = field(default_factory=dict)
    missing: int = 0

    @property
    def sites(self) -> Sites:
        return Sites(f"{self.url}/abs/", f"{self.url}/raw/")


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body, seconds = made.answers.get(self.path, (404, b"", 0.0))
            time.sleep(seconds)
            with suppress(ConnectionError):  # the client has given up waiting
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) + made.missing))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: pytest's output is about tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        made.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield made
        listening.shutdown()
        thread.join()


def page(title: str) -> bytes:
    """What an arXiv page has in its head."""
    return f'<html><head><meta name="citation_title" content="{title}" /></head></html>'.encode()


def of_kind(kind: str, sites: Sites, variant: str = "eva") -> Link:
    return next(link for link in expected([variant], sites) if link.kind == kind)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ((200, page(TITLE), 0.0), OK),
        ((200, page(TITLE.upper().replace(" ", "\n  ")), 0.0), OK),
        (
            (
                200,
                page("One Initialization to Rule them All: Fine-tuning via Explained Variance Adaptation"),
                0.0,
            ),
            OK,
        ),
        ((200, page("Attention &amp; Other Needs"), 0.0), WRONG_TITLE),
        ((200, b"<html>please wait</html>", 0.0), UNCHECKED),
        ((404, b"", 0.0), GONE),
        ((410, page(TITLE), 0.0), GONE),
        ((500, page(TITLE), 0.0), UNCHECKED),
        ((429, page(TITLE), 0.0), UNCHECKED),
        ((200, page(TITLE), 0.6), UNCHECKED),
    ],
    ids=["right", "folded", "older title", "wrong title", "no title", "404", "410", "500", "429", "time-out"],
)
def test_a_papers_page(server: Server, answer: tuple[int, bytes, float], status: str) -> None:
    server.answers["/abs/2410.07170"] = answer
    found = checked(of_kind(links.PAPER, server.sites), seconds=0.3)
    assert (found.status, bool(found.why)) == (status, status != OK)


def test_half_an_answer_is_none(server: Server) -> None:
    server.answers["/abs/2410.07170"] = (200, page(TITLE), 0.0)
    server.missing = 7
    found = checked(of_kind(links.PAPER, server.sites), seconds=2)
    assert (found.status, "IncompleteRead" in found.why) == (UNCHECKED, True)


@pytest.mark.parametrize(("kind", "revision"), [(links.PINNED, "v0.21.2"), (links.TODAY, "HEAD")])
def test_a_file_of_a_repository(
    server: Server, monkeypatch: pytest.MonkeyPatch, kind: str, revision: str
) -> None:
    """There with the recorded hash, changed, gone, and there with no hash to compare with."""
    path = f"/raw/huggingface/peft/{revision}/src/peft/tuners/lora/eva.py"
    record_hash(monkeypatch, sha256(FILE).hexdigest())
    for body, status in ((FILE, MATCH), (FILE + b"#", DRIFT)):
        server.answers[path] = (200, body, 0.0)
        assert checked(of_kind(kind, server.sites)).status == status
    del server.answers[path]
    assert checked(of_kind(kind, server.sites)).status == GONE
    server.answers[path] = (200, FILE, 0.0)
    record_hash(monkeypatch, None)
    found = checked(of_kind(kind, server.sites))
    assert found.status == OK
    assert sha256(FILE).hexdigest() in found.why


def record_hash(monkeypatch: pytest.MonkeyPatch, digest: str | None, **more: str) -> None:
    """Pretend that this was written down for EVA's file."""
    reference = ll.VARIANTS["eva"].reference
    assert reference is not None
    assert reference.code is not None
    changed = replace(reference, code=replace(reference.code, sha256=digest, **more))
    monkeypatch.setattr(ll.VARIANTS["eva"], "reference", changed)


def test_without_a_network_nothing_is_ok() -> None:
    """A port that nobody listens on, and a name that cannot be."""
    for url in ("http://127.0.0.1:9", "http://no.such.host.invalid"):
        for link in expected(["eva", "lora"], Sites(f"{url}/", f"{url}/")):
            if link.kind != links.INSTALLED:
                found = checked(link, seconds=2)
                assert found.status == UNCHECKED
                assert found.why
                assert found.why != links.NOT_ASKED


def test_an_audit_that_opens_nothing_calls_nothing_ok() -> None:
    """And what a test did open in the same run stands beside it."""
    for link in merged([], ll.VARIANTS):
        assert link.status == UNCHECKED or link.kind == links.INSTALLED
    record = {**vars(of_kind(links.PAPER, Sites())), "status": OK, "why": ""}
    assert {link.kind: link.status for link in merged([record], ["eva"])}[links.PAPER] == OK


def test_every_variant_is_linked_and_a_shared_link_is_opened_once() -> None:
    found = expected(ll.VARIANTS)
    assert len({(link.kind, link.url) for link in found}) == len(found)
    assert {name for link in found for name in link.variants} >= set(ll.VARIANTS) - {
        name for name, variant in ll.VARIANTS.items() if variant.reference is None
    }
    assert [link.variants for link in found if link.kind == links.PAPER and "2205.05638" in link.url] == [
        ["ia3", "ia3_ff"]
    ]


@pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed: pip install 'lora-lite[peers]'")
def test_installed_files_are_compared_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the recorded release match; a changed one drifts; another release says nothing."""
    installed = [link for link in expected(ll.VARIANTS) if link.kind == links.INSTALLED]
    assert {checked(link).status for link in installed} == {MATCH}
    record_hash(monkeypatch, "0" * 64)
    assert checked(of_kind(links.INSTALLED, Sites())).status == DRIFT
    record_hash(monkeypatch, "0" * 64, revision="v0.1.0")
    found = checked(of_kind(links.INSTALLED, Sites()))
    assert (found.status, "recorded was v0.1.0" in found.why) == (UNCHECKED, True)


def test_references_are_opened_only_when_asked_for(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinary run neither skips nor deselects them."""
    online = pytestconfig.rootpath / "properties" / "test_online.py"
    for asked, marks in ((False, ""), (True, ""), (False, "online")):
        monkeypatch.setattr(pytestconfig.option, "online", asked)
        monkeypatch.setattr(pytestconfig.option, "markexpr", marks)
        assert pytest_ignore_collect(online, pytestconfig) is (None if asked or marks else True)
        assert pytest_ignore_collect(online.with_name("test_links.py"), pytestconfig) is None
