"""Where a formula comes from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceFile:
    """A file of a public implementation, and the hash by which a later change of it shows.

    repository  "owner/name" on GitHub
    path        in the repository
    revision    tag or commit that was read
    sha256      of the file there; None where it was not recorded
    """

    repository: str
    path: str
    revision: str
    sha256: str | None


@dataclass(frozen=True)
class Reference:
    """Where a variant's formula comes from.

    arxiv   the paper's number, as "2106.09685"
    titles  every title that the paper has carried, newest first
    code    a public implementation, None where there is none
    """

    arxiv: str
    titles: tuple[str, ...]
    code: SourceFile | None = None
