"""The eligibility JSON of Claim.MD, in which Healthie's checks are answered, as EB rows.

Source: field names of docs.claim.md and of public code that reads it; Healthie documents only "a JSON object". `result`
may wrap it or not, `elig`, `benefit` and `error` may each be one object or a list, and every value is a string.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from covergate.eligibility.failure import Aaa
from covergate.eligibility.result import PostalAddress
from covergate.eligibility.sourced import NOT_STATED, Sourced, percent, pointer
from covergate.eligibility.x12.names import AAA03_NAMES
from covergate.eligibility.x12.rows import Days, EbRow, Entity, dtp, element
from covergate.vendors.document import Node, text


@dataclass(frozen=True, slots=True)
class CheckResponse:
    """A check's `response`, in either dialect. `errors` are (code, text) of errors that are no AAA."""

    rows: tuple[EbRow, ...] = ()
    plan_days: tuple[Days, ...] = ()
    aaas: tuple[Aaa, ...] = ()
    errors: tuple[tuple[str | None, str | None], ...] = ()
    message: str | None = None
    """The vendor's own text beside the first AAA or error."""
    insured: Node | None = None
    """The object whose `ins_…` fields are the insured person."""


def claim_md(document: Node) -> CheckResponse | None:
    """None if the document is not one of Claim.MD's."""
    roots = [inner for root in document.objects() for inner in (root, *root.at("result").objects())]
    eligs = [elig for root in roots for elig in root.at("elig").objects()]
    eligs += [root for root in roots if "benefit" in root.value]
    errors = [error for place in (*roots, *eligs) for error in place.at("error").objects()]
    if not eligs and not errors:
        return None
    aaas, others = sort_errors(errors, "error_code", "error_mesg")
    return CheckResponse(
        rows=tuple(_row(benefit) for elig in eligs for benefit in elig.at("benefit").objects()),
        plan_days=tuple(day for elig in eligs for day in _plan_days(elig)),
        aaas=aaas,
        errors=others,
        message=next((words for error in errors if (words := error.text("error_mesg").value)), None),
        insured=eligs[0] if eligs else None,
    )


def sort_errors(
    errors: list[Node], code: str, words: str
) -> tuple[tuple[Aaa, ...], tuple[tuple[str | None, str | None], ...]]:
    """Errors whose code is an AAA03 as such; the others by code and text."""
    aaas: list[Aaa] = []
    others: list[tuple[str | None, str | None]] = []
    for error in errors:
        error_code = error.text(code)
        if error_code.value in AAA03_NAMES:
            aaas.append(Aaa(code=error_code.value, sources=list(error_code.pointers)))
        else:
            others.append((error_code.value, error.text(words).value))
    return tuple(aaas), tuple(others)


def _row(benefit: Node) -> EbRow:
    def of(key: str) -> Sourced[str]:
        return element(benefit.at(key).value, benefit.at(key).pointer)

    share, place = of("benefit_percent"), of("place_of_service")
    return EbRow(
        eb01=of("benefit_coverage_code"),
        eb02=of("benefit_level_code"),
        eb03=tuple(split_codes(benefit.at("benefit_code"))),
        eb04=of("insurance_type_code"),
        eb05=of("insurance_plan"),
        eb06=of("benefit_period_code"),
        eb07=of("benefit_amount"),
        eb08=share,
        eb08_is_fraction=_is_fraction(share),
        eb12=of("inplan_network"),
        msgs=tuple(split_codes(benefit.at("benefit_notes"), by=None)),
        places=(place,) if re.fullmatch("[0-9]{2}", place.value or "") else (),
        entities=tuple(_entities(benefit)),
    )


def _is_fraction(share: Sourced[str]) -> bool:
    """Clients read the percentage as whole percents in some places and as a fraction in others: up to 1 it is a fraction."""
    whole = percent(share.value)
    return whole is not None and whole <= 1


def split_codes(node: Node, by: str | None = r"[\^,|]") -> list[Sourced[str]]:
    """The texts of a list, or of one text that joins several."""
    if isinstance(node.value, list):
        parts = [element(value, pointer(node.pointer, index)) for index, value in enumerate(node.value)]
        return [part for part in parts if part]
    whole = element(node.value, node.pointer)
    if whole.value is None:
        return []
    texts = re.split(by, whole.value) if by is not None else [whole.value]
    return [Sourced(text_.strip(), whole.pointers) for text_ in texts if text_.strip()]


def _entities(benefit: Node) -> list[Entity]:
    """Parallel lists: the first name belongs to the first id, and so on."""
    names = ("entity_code", "entity_name", "entity_id", "entity_phone", "entity_fax")
    columns = {name: _column(benefit.at(name)) for name in names}
    address = {name: _column(benefit.at(f"entity_{name}")) for name in ("addr_1", "addr_2", "city", "state", "zip")}
    entities: list[Entity] = []
    for index in range(max(len(column) for column in columns.values())):
        code, name, number, phone, fax = (_nth(columns[name], index) for name in names)
        if not name and not number:
            continue
        lines = {part: stated.value for part, column in address.items() if (stated := _nth(column, index))}
        first_line = _nth(address["addr_1"], index)
        entities.append(
            Entity(
                code=code,
                name=name,
                id=number,
                phone=phone,
                fax=fax,
                address=Sourced(
                    PostalAddress(
                        line1=lines.get("addr_1"),
                        line2=lines.get("addr_2"),
                        city=lines.get("city"),
                        state=lines.get("state"),
                        zip=lines.get("zip"),
                    ),
                    first_line.pointers,
                )
                if first_line
                else NOT_STATED,
            )
        )
    return entities


def _column(node: Node) -> list[Sourced[str]]:
    if isinstance(node.value, list):
        return [element(value, pointer(node.pointer, index)) for index, value in enumerate(node.value)]
    return [element(node.value, node.pointer)]


def _nth(column: list[Sourced[str]], index: int) -> Sourced[str]:
    return column[index] if index < len(column) else NOT_STATED


def _plan_days(elig: Node) -> list[Days]:
    """`yyyymmdd`; 346 and 347 are the DTP qualifiers of plan begin and plan end."""
    dates = (("346", elig.at("plan_begin_date")), ("347", elig.at("plan_end_date")))
    read = [dtp(qualifier, text(node.value), node.pointer) for qualifier, node in dates]
    return [days for days in read if days is not None]
