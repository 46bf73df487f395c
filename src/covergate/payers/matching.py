"""Which payer a name means. Pure: names in, payer ids out.

A wrong payer costs a fee and gives a wrong answer, so only the same words, or a slip of the pen in a long one, are taken for
the same name; what merely resembles is for a person to decide. States, programs and numbers must agree to the letter:
"Blue Cross Blue Shield of Texas" is not that of Kansas.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz import fuzz, process

ALIKE = 90.0
"""At least this score (`fuzz.ratio` of the sorted words, 0 to 100), and every word that differs differs by a slip."""
MARGIN = 5.0
"""The lead that the best match needs over the next one; with less, both are meant."""
DOUBTFUL = 80.0
SLIP = 88.0
"""The score of two words that differ by a letter too many, or by another letter in a long word."""
MOST_SUGGESTED = 10

# How payers' names are shortened or run together on cards and in carrier lists; state codes that are no words or names.
WRITTEN_OUT: dict[str, str] = {
    "bcbs": "blue cross blue shield",
    "uhc": "united healthcare",
    "unitedhealthcare": "united healthcare",
    "hlth": "health",
    "ins": "insurance",
    "ca": "california",
    "fl": "florida",
    "il": "illinois",
    "ky": "kentucky",
    "mn": "minnesota",
    "nc": "north carolina",
    "nj": "new jersey",
    "nm": "new mexico",
    "ny": "new york",
    "sc": "south carolina",
    "tn": "tennessee",
    "tx": "texas",
}
SILENT = frozenset(re.findall(r"\w+", "the of and inc incorporated llc ltd co corp corporation company"))
GENERAL = frozenset(
    re.findall(
        r"\w+",
        "health healthcare care plan plans insurance life group medical benefits services choice community national"
        " american state blue",
    )
)
"""Words that many payers share: having only these in common is no resemblance."""
PROTECTED = frozenset(
    re.findall(
        r"\w+",
        "alabama alaska arizona arkansas california colorado connecticut delaware florida georgia hawaii idaho illinois indiana"
        " iowa kansas kentucky louisiana maine maryland massachusetts michigan minnesota mississippi missouri montana nebraska"
        " nevada new hampshire jersey mexico york north south carolina dakota ohio oklahoma oregon pennsylvania rhode island"
        " tennessee texas utah vermont virginia washington west east wisconsin wyoming columbia puerto rico"
        " medicare medicaid advantage supplement hmo ppo epo pos dental vision student senior federal employees tricare",
    )
)


@dataclass(frozen=True, slots=True)
class Key:
    """A name in comparable form: its words without the silent ones."""

    words: frozenset[str]
    joined: str
    """Without blanks: "United Health Care" is "UnitedHealthcare"."""
    ordered: str


@lru_cache(maxsize=65_536)
def key_of(name: str) -> Key:
    folded = unicodedata.normalize("NFKD", name).casefold().replace("&", " and ")
    folded = re.sub(r"['’`\u0300-\u036f]", "", folded)
    written = [WRITTEN_OUT.get(word, word) for word in re.findall(r"\w+", folded)]
    every = " ".join(written).split()
    words = [word for word in every if word not in SILENT] or every
    return Key(frozenset(words), "".join(words), " ".join(sorted(words)))


def alike(one: Key, other: Key) -> float:
    """The score of two names that differ by slips only, else 0."""
    if one.joined == other.joined:
        return 100.0
    score = fuzz.ratio(one.ordered, other.ordered)
    left, right = sorted(one.words - other.words), sorted(other.words - one.words)
    if score < ALIKE or len(left) != len(right):
        return 0.0
    return score if all(map(_slip, left, right)) else 0.0


def resembles(one: Key, other: Key) -> float:
    """The likeness that a person should look at, 0 for none: close in spelling, or one inside the other."""
    score = fuzz.ratio(one.ordered, other.ordered)
    if score >= DOUBTFUL and _protected(one) == _protected(other):
        return score
    inside = one.words <= other.words or other.words <= one.words
    return score if inside and _tells(one.words & other.words) else 0.0


class Names:
    """Payers by what they are called."""

    def __init__(self, named: Iterable[tuple[str, str, bool]] = ()) -> None:
        """`named` are (payer id, name, whether it is the payer's main name)."""
        self._main: defaultdict[str, set[str]] = defaultdict(set)
        self._other: defaultdict[str, set[str]] = defaultdict(set)
        self._entries: list[tuple[str, Key]] = []
        self._ordered: list[str] = []
        self._with_word: defaultdict[str, set[int]] = defaultdict(set)
        for payer_id, name, is_main in named:
            self.add(payer_id, name, is_main)

    def add(self, payer_id: str, name: str, is_main: bool) -> None:
        key = key_of(name)
        if not key.joined:
            return
        (self._main if is_main else self._other)[key.joined].add(payer_id)
        for word in key.words:
            self._with_word[word].add(len(self._entries))
        self._entries.append((payer_id, key))
        self._ordered.append(key.ordered)

    def called(self, name: str) -> tuple[str, ...]:
        """The payers that go by exactly this name; those whose main name it is come before any alias."""
        joined = key_of(name).joined
        return tuple(sorted(self._main.get(joined) or self._other.get(joined) or ()))

    def meant(self, name: str) -> tuple[str, ...]:
        """The payers that this name, perhaps misspelled, must mean: none, one, or several that nothing tells apart."""
        if exact := self.called(name):
            return exact
        key = key_of(name)
        scores = self._best(
            (payer_id, alike(key, other)) for payer_id, other in (self._entries[at] for at in self._near(key, ALIKE))
        )
        return tuple(payer_id for payer_id, score in scores if score > scores[0][1] - MARGIN)

    def misspelt(self, name: str) -> tuple[str, ...]:
        """The payers whose names are close to this one in spelling, the closest first."""
        key = key_of(name)
        entries = (self._entries[at] for at in self._near(key, DOUBTFUL))
        near = ((payer_id, other) for payer_id, other in entries if _protected(key) == _protected(other))
        return tuple(id_ for id_, _ in self._best((id_, fuzz.ratio(key.ordered, other.ordered)) for id_, other in near))

    def named_in_part(self, name: str) -> tuple[str, ...]:
        """The payers whose names have all of these words, the closest first."""
        key = key_of(name)
        if not key.words:
            return ()
        numbers = set.intersection(*(self._with_word.get(word, set()) for word in key.words))
        entries = (self._entries[at] for at in numbers)
        return tuple(
            payer_id
            for payer_id, _ in self._best(
                (payer_id, fuzz.ratio(key.ordered, other.ordered)) for payer_id, other in entries
            )
        )

    def resembling(self, name: str) -> list[tuple[str, float]]:
        """The payers that a person should compare with this name, with their scores, the closest first."""
        key = key_of(name)
        telling = [word for word in key.words if word not in GENERAL | PROTECTED]
        near = set(self._near(key, DOUBTFUL)).union(*(self._with_word.get(word, set()) for word in telling))
        entries = (self._entries[at] for at in near)
        return self._best((payer_id, resembles(key, other)) for payer_id, other in entries)[:MOST_SUGGESTED]

    def searched(self, text: str) -> list[str]:
        """For a search box: names that begin so, that have words that begin so, that are close; the best first."""
        key = key_of(text)
        if not key.words:
            return []
        return [payer_id for payer_id, _ in self._best((id_, _relevance(key, other)) for id_, other in self._entries)]

    def _near(self, key: Key, cutoff: float) -> list[int]:
        rows = process.extract(key.ordered, self._ordered, scorer=fuzz.ratio, score_cutoff=cutoff, limit=None)
        return [at for _, _, at in rows]

    def _best(self, scored: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
        best: dict[str, float] = {}
        for payer_id, score in scored:
            if score > best.get(payer_id, 0.0):
                best[payer_id] = score
        return sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))


def _relevance(key: Key, other: Key) -> float:
    if other.joined.startswith(key.joined):
        return 200.0 + fuzz.ratio(key.joined, other.joined)
    if all(any(word.startswith(asked) for word in other.words) for asked in key.words):
        return 100.0 + fuzz.ratio(key.ordered, other.ordered)
    score = fuzz.ratio(key.ordered, other.ordered)
    return score if score >= DOUBTFUL else 0.0


def _slip(one: str, other: str) -> bool:
    fixed = any(word in PROTECTED or any(map(str.isdigit, word)) for word in (one, other))
    return not fixed and fuzz.ratio(one, other) >= SLIP


def _protected(key: Key) -> frozenset[str]:
    return frozenset(word for word in key.words if word in PROTECTED or any(map(str.isdigit, word)))


def _tells(words: frozenset[str]) -> bool:
    return not words <= GENERAL | PROTECTED
