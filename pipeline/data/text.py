"""When two texts are equal, when a text is blank, and what happens to a key that repeats: one rule for every reader.

Two texts are equal if they are the same after Unicode's NFKC (which tokenizers apply too) and with any white space
written as one space. Passage groups, ids and the leakage check compare texts in this form; encoders get them as they
are.
"""

import unicodedata
from collections.abc import Hashable, Sequence
from hashlib import blake2b
from typing import Generic, TypeVar

from pipeline.values import UserError

INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))  # zero-width space, word joiner, byte order mark
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def normal(text: str) -> str:
    """Return the form in which texts are compared.

    >>> normal(" cafe\\u0301\\u00a0\\uff21\\n") == "caf\\u00e9 A"
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text.translate(INVISIBLE)).split())


def is_blank(text: str | None) -> bool:
    """Return whether a text is missing, or holds white space and invisible characters alone.

    >>> is_blank("\\u00a0\\u200b\\n"), is_blank(".")
    (True, False)
    """
    return not text or not normal(text)


def hash64(text: str) -> int:
    """Return a 64-bit hash of a text; texts that are equal have equal hashes.

    >>> hash64("a  b") == hash64("a b "), 0 <= hash64("") < 2**64
    (True, True)
    """
    return int.from_bytes(blake2b(normal(text).encode(), digest_size=8).digest())


def check_languages(languages: Sequence[str], known: Sequence[str] | None = None) -> None:
    """Raise ValueError for languages that repeat, are none at all, or are not among the known ones."""
    unknown = [language for language in languages if known is not None and language not in known]
    if unknown or not languages or len(set(languages)) < len(languages):
        among = f"distinct and among {', '.join(known)}" if known is not None else "distinct and at least one"
        raise ValueError(f"languages must be {among}, got {', '.join(unknown or languages) or 'none'}")


class Keyed(dict[Key, Value], Generic[Key, Value]):
    """Entries of files by key. Equal entries of one key count once; entries that differ are refused.

    Args:
        what: a key is, in messages: "topic".

    >>> topics = Keyed("topic")
    >>> for number, text in enumerate(["Who?", "Who?", "When?"], 1):
    ...     topics.put("7", text, f"topics.tsv, line {number}")
    Traceback (most recent call last):
    pipeline.values.UserError: topics.tsv, line 3 repeats the topic 7 of topics.tsv, line 1 with other content.
    >>> topics, topics.repeated
    ({'7': 'Who?'}, 1)
    """

    def __init__(self, what: str):
        super().__init__()
        self.what, self.repeated = what, 0
        self._places: dict[Key, str] = {}

    def put(self, key: Key, value: Value, place: str) -> None:
        """Add an entry that stands at `place`, a file and line; UserError if its key has another value."""
        if key not in self:
            self[key], self._places[key] = value, place
        elif self[key] == value:
            self.repeated += 1
        else:
            name = " ".join(key) if isinstance(key, tuple) else key
            raise UserError(f"{place} repeats the {self.what} {name} of {self._places[key]} with other content.")


def repeats(counts: dict[str, int]) -> str | None:
    """Return the note on entries that were repeated word for word, by what they are; None if none was.

    >>> repeats({"topic": 0, "judgement": 2})
    'Repeated entries were counted once: judgement (2).'
    """
    found = ", ".join(f"{what} ({count:,})" for what, count in counts.items() if count)
    return f"Repeated entries were counted once: {found}." if found else None
