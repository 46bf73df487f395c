"""Whom a 271 names beside the payer (loop 2120 of a row), in which role and for which services (docs/x12.md#entities)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from covergate.eligibility.inquiry import Service
from covergate.eligibility.result import RelatedEntity
from covergate.eligibility.service_types import services_meant
from covergate.eligibility.sourced import Sourced, row
from covergate.eligibility.terms import Role
from covergate.eligibility.x12.codes import (
    ACTIVE,
    CAPITATED,
    CONTACT_OTHER_ENTITY,
    CONTRACTED_VENDOR,
    ENTITY_ROLES,
    HEALTH_CARE_FACILITY,
    HOSPICE,
    MANAGED_CARE_TYPES,
    OTHER_PAYER,
    PAYING_ENTITIES,
    PHARMACY,
    PROVIDER,
    ROW_ROLES,
    WHOLE_PLAN,
)
from covergate.eligibility.x12.payers import full_name, is_payer
from covergate.eligibility.x12.rows import EbRow, Entity, texts


def related_entities_of(
    rows: Sequence[EbRow], service: Service, asking_npi: str | None, answering: Iterable[str]
) -> list[RelatedEntity]:
    """`answering` are id and name of the payer that answers: it is not an entity beside itself."""
    itself = {_folded(text) for text in answering}
    return [entity for eb in rows for entity in _of_row(eb, service, asking_npi, itself)]


def _of_row(eb: EbRow, service: Service, asking_npi: str | None, itself: set[str]) -> list[RelatedEntity]:
    """ "Contact another entity" is one even if the row names none, unless it only says what holds of any answer."""
    if not eb.entities and eb.code == CONTACT_OTHER_ENTITY:
        if is_note(eb, itself):
            return []
        return [_stated(eb, Entity(), _role_of_contact(eb, Entity(), service, itself))]
    entities = [entity for entity in eb.entities if eb.code != OTHER_PAYER or _is_a_third_party(entity)]
    stated = [(entity, _role(eb, entity, service, itself)) for entity in entities]
    return [_stated(eb, entity, role) for entity, role in stated if not _asks(entity, role, asking_npi)]


def _stated(eb: EbRow, entity: Entity, role: Role) -> RelatedEntity:
    codes = texts(eb.eb03)
    return RelatedEntity(
        **row(
            role=Sourced(role, eb.eb01.pointers + entity.code.pointers),
            entity_code=entity.code,
            name=full_name(entity),
            npi=entity.npi,
            id=entity.id,
            phone=entity.phone,
            fax=entity.fax,
            website=entity.website,
            address=entity.address,
            service_type_codes=Sourced(codes or None, tuple(at for code in eb.eb03 for at in code.pointers)),
        )
    )


def _role(eb: EbRow, entity: Entity, service: Service, itself: set[str]) -> Role:
    if eb.code == HEALTH_CARE_FACILITY and HOSPICE in eb.service_types:
        return Role.HOSPICE
    if eb.code in ROW_ROLES:
        return ROW_ROLES[eb.code]
    if entity.code.value in ENTITY_ROLES:
        return ENTITY_ROLES[entity.code.value]
    if eb.code == CONTACT_OTHER_ENTITY:
        return _role_of_contact(eb, entity, service, itself)
    return Role.MANAGED_CARE if _manages_care(eb, entity, itself) else Role.OTHER


def _role_of_contact(eb: EbRow, entity: Entity, service: Service, itself: set[str]) -> Role:
    """Of the entity to contact: for the asked service the carve-out, otherwise the vendor of another benefit.

    For the plan as such it is the managed care plan, if the row is of that type.
    """
    codes = eb.service_types
    if codes and codes <= PHARMACY:
        return Role.PHARMACY_BENEFIT
    if WHOLE_PLAN not in codes and any(not codes.isdisjoint(meant) for meant in services_meant(service)):
        return Role.CARVE_OUT
    if (not codes or WHOLE_PLAN in codes) and eb.eb04.value in MANAGED_CARE_TYPES and _pays(entity, itself):
        return Role.MANAGED_CARE
    return Role.CARVE_OUT_VENDOR if entity.code.value == CONTRACTED_VENDOR and codes else Role.OTHER


def _manages_care(eb: EbRow, entity: Entity, itself: set[str]) -> bool:
    is_managed = eb.code in CAPITATED or (eb.code in ACTIVE and eb.eb04.value in MANAGED_CARE_TYPES)
    return is_managed and _pays(entity, itself)


_OF_ANY_ANSWER = re.compile(r"\bnot a guarantee\b|\bdoes not guarantee\b|\bno guarantee\b")
_TO_SOMEBODY = re.compile(r"\b(contact|call|refer to|submit|administered)\b")
_SHORTEST_NAME = 4


def is_note(eb: EbRow, itself: Iterable[str]) -> bool:
    """Whether a row to contact somebody names nobody and no service, and its words only tell what holds of any answer.

    That is a disclaimer, or that more is known to the payer that answers.
    """
    said = [_folded(text) for text in texts(eb.msgs)]
    names = [name for name in map(_folded, itself) if len(name) >= _SHORTEST_NAME]
    is_of_nobody = eb.code == CONTACT_OTHER_ENTITY and not (eb.entities or eb.service_types or eb.procedures)
    return (
        is_of_nobody
        and bool(said)
        and all(any(name in text for name in names) or _is_disclaimer(text) for text in said)
    )


def _is_disclaimer(words: str) -> bool:
    return _OF_ANY_ANSWER.search(words) is not None and _TO_SOMEBODY.search(words) is None


def _pays(entity: Entity, itself: set[str]) -> bool:
    return entity.code.value in PAYING_ENTITIES and not _is_itself(entity, itself)


def _is_itself(entity: Entity, itself: set[str]) -> bool:
    return any(text.value is not None and _folded(text.value) in itself for text in (entity.id, entity.name))


def _is_a_third_party(entity: Entity) -> bool:
    """Of a row on another payer: neither that payer nor its policyholder."""
    return not is_payer(entity) and entity.code.value in ENTITY_ROLES


def _asks(entity: Entity, role: Role, asking_npi: str | None) -> bool:
    """The provider that asked is no news to itself, except as the hospice that was elected."""
    is_asking = entity.code.value == PROVIDER and entity.npi.value is not None and entity.npi.value == asking_npi
    return is_asking and role is not Role.HOSPICE


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
