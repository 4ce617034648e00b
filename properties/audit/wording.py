"""Numbers with their nouns."""


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """ "1 claim", "2 claims"; a noun in -y after a consonant becomes -ies."""
    regular = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
    return f"{n} {noun if n == 1 else plural or regular}"
