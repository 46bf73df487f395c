"""The phrase book: payers' fixed message texts, read into fields that X12 has no element for (docs/x12.md#phrases).

`phrases.toml` holds the phrases. Invariant: a phrase only adds. What a coded element states stands; without the book values
can only be null, or rows narrower (`limited_to`), never different. Each value that a phrase gives names the phrase in its
`sources`. A text of a cost row that no phrase explains narrows the row: it then never speaks of the service in general.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple

from covergate.eligibility.answer import Answer
from covergate.eligibility.part import ResultPart
from covergate.eligibility.result import Benefit, Quantity, Warning_
from covergate.eligibility.service_types import PHYSICIAN, VISITS
from covergate.eligibility.sourced import PhraseSource, Sources, pointers_at
from covergate.eligibility.terms import AuthorizationNeed, BenefitPlace, Kind, Network, ProviderKind, Unit, WarningCode
from covergate.eligibility.x12.codes import WHOLE_PLAN
from covergate.eligibility.x12.names import EB03_NAMES

_OF_THE_ANSWER = ("provider_in_network", "referral_required")
_SCOPE = ("network", "tier", "place", "provider_kind")
"""Fields that say of whom or where a row speaks: what two texts dispute narrows the row."""
_BESIDES = (
    "deductible_waived",
    "counts_to_out_of_pocket",
    "includes_deductible",
    "shared_with",
    "authorization",
    "quantity",
)
_ACCUMULATORS = frozenset({Kind.DEDUCTIBLE, Kind.OUT_OF_POCKET_MAX})
_COSTS = _ACCUMULATORS | {Kind.COPAY, Kind.COINSURANCE}
_LONGEST = 600
"""Characters of a text that are still matched; X12 allows 264."""
_MOST_KNOWN = 2_048
"""Texts that are remembered. Payers have a few hundred."""
_QUOTES = str.maketrans("‘’“”", "''\"\"")

_CONTRADICTION = "Phrases of the payer contradict each other on {field} ({phrases}); it was left open."


class PhraseFields(ResultPart):
    """The fields that a phrase fills; null if it says nothing of one."""

    provider_in_network: bool | None = None
    referral_required: bool | None = None
    deductible_waived: bool | None = None
    counts_to_out_of_pocket: bool | None = None
    includes_deductible: bool | None = None
    network: Network | None = None
    tier: str | None = None
    place: BenefitPlace | None = None
    provider_kind: ProviderKind | None = None
    shared_with: tuple[str, ...] | None = None
    authorization: AuthorizationNeed | None = None
    quantity: Quantity | None = None


class Phrase(ResultPart):
    """An entry of the book; the head of `phrases.toml` explains the fields."""

    id: str
    version: int
    payers: tuple[str, ...]
    pattern: str
    says: PhraseFields = PhraseFields()
    kinds: frozenset[Kind] = frozenset()
    one_of: bool = False
    limited: bool = False
    general_for: frozenset[str] = frozenset()
    weak: bool = False
    example: str

    @property
    def name(self) -> str:
        return f"phrase:{self.id}@{self.version}"


class _Match(NamedTuple):
    """A phrase with the values that it gives; what every row asks of it stands beside, as it does not change."""

    phrase: Phrase
    values: dict[str, Any]
    name: str
    one_of: bool
    limited: bool
    kinds: frozenset[Kind]
    general_for: frozenset[str]
    names_a_place: bool

    @classmethod
    def of(cls, phrase: Phrase, groups: dict[str, str]) -> _Match:
        return cls(
            phrase=phrase,
            values=_values(phrase, groups),
            name=phrase.name,
            one_of=phrase.one_of,
            limited=phrase.limited,
            kinds=phrase.kinds,
            general_for=phrase.general_for,
            names_a_place=phrase.says.place is not None,
        )

    @property
    def scope(self) -> _Scope:
        return self.values.get("place"), self.values.get("provider_kind")


@dataclass(frozen=True, slots=True)
class Book:
    """Phrases that are plain words, by these, and the others with their compiled patterns; `any_of` is all of these.

    `known` remembers texts that are phrases from one answer to the next; any other text could be about a person.
    """

    plain: dict[str, tuple[_Match, ...]] = field(default_factory=dict)
    patterns: tuple[tuple[re.Pattern[str], _Match], ...] = ()
    any_of: re.Pattern[str] | None = None
    known: dict[str, _Text] = field(default_factory=dict, compare=False)

    def find(self, folded: str) -> list[_Match]:
        """All phrases that the whole text is."""
        matches = [*self.plain.get(folded, ())]
        # Most texts are plain words or nothing at all: one pattern says so in place of all.
        if self.any_of is not None and self.any_of.fullmatch(folded):
            for pattern, match in self.patterns:
                if (found := pattern.fullmatch(folded)) is not None:
                    groups = found.groupdict()
                    matches.append(_Match.of(match.phrase, groups) if groups else match)
        return matches


def _values(phrase: Phrase, groups: dict[str, str]) -> dict[str, Any]:
    values = {name: value for name in PhraseFields.model_fields if (value := getattr(phrase.says, name)) is not None}
    if "tier" in groups:
        values["tier"] = groups["tier"]
    if "visits" in groups:
        values["quantity"] = Quantity(unit=Unit.VISITS, total=Decimal(groups["visits"]))
    if "service_types" in groups:
        codes = [word.upper() for word in re.split("[, ]+", groups["service_types"]) if word and word != "and"]
        if all(code in EB03_NAMES for code in codes):
            values["shared_with"] = (*values.get("shared_with", ()), *codes)
    return values


def make_book(phrases: Iterable[Phrase]) -> Book:
    plain: defaultdict[str, list[_Match]] = defaultdict(list)
    patterns: list[tuple[re.Pattern[str], _Match]] = []
    for phrase in phrases:
        match = _Match.of(phrase, {})
        if re.search(r"[\\^$.|?*+()\[\]{}]", phrase.pattern):
            patterns.append((re.compile(phrase.pattern), match))
        else:
            plain[phrase.pattern].append(match)
    unnamed = [re.sub(r"\?P<\w+>", "?:", pattern.pattern) for pattern, _ in patterns]
    any_of = re.compile("|".join(f"(?:{one})" for one in unnamed)) if unnamed else None
    return Book({words: tuple(those) for words, those in plain.items()}, tuple(patterns), any_of)


def read_phrases(content: str) -> list[Phrase]:
    return [Phrase.model_validate(entry) for entry in tomllib.loads(content).get("phrase", [])]


def _stored() -> Book:
    file = resources.files(__package__).joinpath("phrases.toml")
    return make_book(read_phrases(file.read_text("utf-8")) if file.is_file() else [])


BOOK = _stored()


_JOINTS = re.compile("[,/;|\n]")


def fold_text(text: str) -> str:
    """The form in which texts are compared: lower case, single blanks, straight quotes, no full stop at the end."""
    return " ".join(unicodedata.normalize("NFKC", text).translate(_QUOTES).casefold().split()).rstrip(". ")


def apply_phrases(answer: Answer, book: Book = BOOK) -> Answer:
    """The answer with what its texts say by the book. The order of its rows stays and changes nothing but sources."""
    reader = _Reader(book)
    warnings: list[Warning_] = []
    benefits = [_read_row(row, reader, warnings) if row.notes else row for row in answer.benefits]
    changes = _of_the_answer(answer, reader, warnings)
    known = {(warning.message, *warning.sources) for warning in answer.warnings}
    new = {(warning.message, *warning.sources): warning for warning in warnings}
    return answer.model_copy(
        update={
            "benefits": benefits,
            "warnings": [*answer.warnings, *(warning for key, warning in new.items() if key not in known)],
            **changes,
        }
    )


@dataclass(frozen=True, slots=True)
class _Text:
    """A message with the phrases that its parts are; `fields` are those that they speak of, `words` its own if a part is none.

    `ambiguous` holds the parts that are several phrases. `is_explained`: each part is one at least. `lists`: one of these
    is a service of a list; `narrows`: or it is a limit.
    """

    text: str
    words: frozenset[str]
    matches: tuple[_Match, ...]
    fields: frozenset[str]
    ambiguous: tuple[list[_Match], ...]
    is_explained: bool
    lists: bool
    narrows: bool

    @classmethod
    def of(cls, text: str, parts: list[list[_Match]]) -> _Text:
        matches = tuple(match for part in parts for match in part)
        return cls(
            text=text,
            words=frozenset() if all(parts) else _words(text),
            matches=matches,
            fields=frozenset(name for match in matches for name in match.values),
            ambiguous=tuple(part for part in parts if len(part) > 1),
            is_explained=all(parts),
            lists=any(match.one_of for match in matches),
            narrows=any(match.one_of or match.limited for match in matches),
        )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Looks each text of an answer up once."""

    book: Book
    seen: dict[str, _Text] = field(default_factory=dict)

    def read(self, text: str) -> _Text:
        if text not in self.seen:
            self.seen[text] = self.book.known.get(text) or self._looked_up(text)
        return self.seen[text]

    def _looked_up(self, text: str) -> _Text:
        looked_up = _Text.of(text, self._parts(text))
        if looked_up.is_explained and len(self.book.known) < _MOST_KNOWN:
            self.book.known[text] = looked_up
        return looked_up

    def _parts(self, text: str) -> list[list[_Match]]:
        """The text as a whole, or else cut where payers and vendors join phrases."""
        if len(text) > _LONGEST:
            return [[]]
        whole = self.book.find(fold_text(text))
        if whole or _JOINTS.search(text) is None:
            return [whole]
        return [self.book.find(fold_text(part)) for part in _JOINTS.split(text) if part.strip()] or [[]]


# --- rows ------------------------------------------------------------------------------------------------------------


def _read_row(row: Benefit, reader: _Reader, warnings: list[Warning_]) -> Benefit:
    texts = [reader.read(note) for note in sorted(set(row.notes))]
    pointers = pointers_at(row.sources, "notes")
    narrowing = {text.text for text in texts if not (text.is_explained or _names_the_row(text, row))}
    disputed = {text.text for text in texts if text.ambiguous and _is_disputed(text, pointers, warnings)}
    if disputed:
        narrowing |= disputed
        texts = [text for text in texts if text.text not in disputed]
    fields = frozenset[str]().union(*(text.fields for text in texts))
    gained = _Gained(row, pointers)
    narrowing |= _say_scope(gained, texts, fields)
    for name in _BESIDES:
        said = _said(row, texts, name) if name in fields else []
        if said and _holds_for_all(texts, name):
            gained.add(name, said)
    return gained.row(narrowing)


_OF_ANY_PLAN = frozenset({"network", "plan", "product"})


def _names_the_row(text: _Text, row: Benefit) -> bool:
    """Words of the plan's own name tell the row from no other of the plan, nor does the name of its only service type."""
    if row.plan_name is not None and (of_name := text.words - _OF_ANY_PLAN) and of_name <= _words(row.plan_name):
        return True
    if len(row.service_type_codes) != 1 or row.procedure_codes:
        return False
    return text.words == _SERVICE_TYPE_WORDS.get(row.service_type_codes[0])


def _words(text: str) -> frozenset[str]:
    return frozenset(fold_text(text).split())


_SERVICE_TYPE_WORDS = {code: _words(name) for code, name in EB03_NAMES.items()}


def _is_disputed(text: _Text, pointers: list[str], warnings: list[Warning_]) -> bool:
    """Whether two phrases read the same words differently; a warning for each such field names them."""
    disputed = False
    for part in text.ambiguous:
        for name in (*_SCOPE, *_BESIDES):
            saying = [match for match in part if name in match.values]
            if len({match.values[name] for match in saying}) > 1:
                warnings.append(_contradiction(name, [match.phrase for match in saying], pointers))
                disputed = True
    return disputed


def _contradiction(name: str, phrases: Iterable[Phrase], pointers: Iterable[str]) -> Warning_:
    names = ", ".join(sorted({f"{phrase.id}@{phrase.version}" for phrase in phrases}))
    return Warning_(
        code=WarningCode.UNKNOWN_CODE,
        message=_CONTRADICTION.format(field=name, phrases=names),
        sources=sorted(set(pointers)),
    )


_Said = tuple[Any, _Match]


def _said(row: Benefit, texts: Iterable[_Text], name: str) -> list[_Said]:
    """What the texts that are no listed service say of a field of this row."""
    return [
        (match.values[name], match)
        for text in texts
        if name in text.fields
        for match in text.matches
        if name in match.values and not match.one_of
        if not match.kinds or row.kind in match.kinds
    ]


def _holds_for_all(texts: list[_Text], name: str) -> bool:
    """False if it is said of one listed service ("Urgent Care/Plan Ded Waived") and not of another beside it."""
    if any(name in text.fields for text in texts if not text.lists):
        return True
    return all(name in text.fields for text in texts if text.lists)


def _say_scope(gained: _Gained, texts: list[_Text], fields: frozenset[str]) -> set[str]:
    """Adds tier, place and provider kind; returns the texts that narrow the row beyond these."""
    row = gained.stated
    limits = [text for text in texts if text.narrows]
    if not limits and fields.isdisjoint(_SCOPE):
        return set()
    narrowing = {text.text for text in limits for match in text.matches if not match.one_of and _narrows(match, row)}
    # On a deductible of the whole plan the payer lists the services that it applies to.
    listed = [] if _is_of_the_plan(row) else [(text, one) for text in limits for one in text.matches if one.one_of]
    general = [(text, one) for text, one in listed if not _narrows(one, row)]
    united = _union(frozenset({one.scope for _, one in general or listed})) if listed else None
    if listed and (not general or united is None):
        narrowing |= {text.text for text, _ in listed}
    for name in _SCOPE:
        if name not in fields:
            continue
        # Above some services of a list that has several kinds of it, the field is a heading and narrows only these.
        is_heading = united is not None and name not in united and len({one.values.get(name) for _, one in general}) > 1
        said = [] if is_heading else _said(row, texts, name)
        if united is not None and name in united:
            said += [(united[name], one) for _, one in general or listed if one.values.get(name) == united[name]]
        # A row that lists all its tiers, or every kind of provider, is as wide as they are.
        if not listed and {value for value, _ in said} == _EVERY_KIND:
            continue
        if said and not gained.add(name, said) and name != "tier":
            narrowing |= {text.text for text in texts if name in text.fields}
    return narrowing


_EVERY_KIND = frozenset(ProviderKind)


def _narrows(match: _Match, row: Benefit) -> bool:
    """A phrase that names a place may stand on a row that is on other services too: the place keeps them apart."""
    if not match.limited:
        return False
    general = match.general_for.intersection(row.service_type_codes)
    is_general = len(general) == len(row.service_type_codes) or match.names_a_place
    return not (general and is_general)


def _is_of_the_plan(row: Benefit) -> bool:
    of_a_service = bool(row.procedure_codes or row.service_type_codes) and WHOLE_PLAN not in row.service_type_codes
    return row.kind in _ACCUMULATORS and not of_a_service


_Scope = tuple[BenefitPlace | None, ProviderKind | None]


@lru_cache(_MOST_KNOWN)
def _union(scopes: frozenset[_Scope]) -> Mapping[str, Any] | None:
    """Place and provider kind that hold exactly for all of the scopes together; None if there are no such."""
    widest = {scope for scope in scopes if not any(_covers(other, scope) for other in scopes - {scope})}
    places = {place for place, _ in widest}
    if len(places) != 1:
        return None
    kinds = {kind for _, kind in widest}
    united = {"place": places.pop(), "provider_kind": kinds.pop() if len(kinds) == 1 else None}
    return {name: value for name, value in united.items() if value is not None}


def _covers(one: _Scope, other: _Scope) -> bool:
    return one[0] in (None, other[0]) and one[1] in (None, other[1])


@dataclass(slots=True)
class _Gained:
    """Collects what phrases add to a row; what the row itself states stays."""

    stated: Benefit
    pointers: list[str]
    values: dict[str, Any] = field(default_factory=dict)
    sources: Sources = field(default_factory=dict)

    def add(self, name: str, said: list[_Said]) -> bool:
        """Whether what is said agrees, with itself and with the row."""
        strong = [one for one in said if not one[1].phrase.weak] or said
        values = {value for value, _ in strong}
        if len(values) != 1:
            return False
        value = values.pop()
        stated = getattr(self.stated, name)
        if name == "authorization" and self.stated.authorization_required is not None:
            return True
        if stated not in (None, [], AuthorizationNeed.UNKNOWN, Network.UNKNOWN):
            return bool(stated == value)
        self.values[name] = list(value) if isinstance(value, tuple) else value
        self.sources[name] = PhraseSource(pointers=self.pointers, by=min(match.name for _, match in strong))
        return True

    def row(self, narrowing: set[str]) -> Benefit:
        changes, sources = self.values, self.sources
        is_limit = self.stated.kind in (Kind.LIMITATION, Kind.NON_COVERED) and self.stated.code is not None
        if narrowing and (is_limit or self.stated.kind in _COSTS):
            changes["limited_to"] = sorted(narrowing.union(self.stated.limited_to))
            sources["limited_to"] = sorted({*pointers_at(self.stated.sources, "limited_to"), *self.pointers})
        if not changes:
            return self.stated
        return self.stated.model_copy(update={**changes, "sources": {**self.stated.sources, **sources}})


# --- the answer ------------------------------------------------------------------------------------------------------


def _of_the_answer(answer: Answer, reader: _Reader, warnings: list[Warning_]) -> dict[str, Any]:
    """What any text of the answer says of the provider who asks, and of referrals, unless the answer states it."""
    for note in answer.notes:
        reader.read(note)
    if all(text.fields.isdisjoint(_OF_THE_ANSWER) for text in reader.seen.values()):
        return {}
    said: defaultdict[str, list[tuple[Any, Phrase, list[str]]]] = defaultdict(list)
    whole = [(answer.notes, answer.sources, True)]
    of_rows = [(row.notes, row.sources, _is_of_any_visit(row)) for row in answer.benefits]
    for notes, sources, is_of_any_visit in (*whole, *of_rows):
        for note in notes:
            for match in reader.read(note).matches:
                for name in _OF_THE_ANSWER:
                    if name in match.values and (is_of_any_visit or name != "referral_required"):
                        said[name].append((match.values[name], match.phrase, pointers_at(sources, "notes")))
    changes: dict[str, Any] = {}
    sources_of: Sources = {}
    for name in sorted(said):
        phrases = [phrase for _, phrase, _ in said[name]]
        pointers = sorted({pointer for _, _, at in said[name] for pointer in at})
        if getattr(answer, name) is not None:
            continue
        if len({value for value, _, _ in said[name]}) > 1:
            warnings.append(_contradiction(name, phrases, pointers))
            continue
        changes[name] = said[name][0][0]
        sources_of[name] = PhraseSource(pointers=pointers, by=min(phrase.name for phrase in phrases))
    return changes | {"sources": {**answer.sources, **sources_of}}


def _is_of_any_visit(row: Benefit) -> bool:
    """A referral to a chiropractor says nothing of other visits."""
    codes = set(row.service_type_codes)
    return not (codes or row.procedure_codes) or not codes.isdisjoint({WHOLE_PLAN, PHYSICIAN, *VISITS})
