"""Names of what was asked that say nothing without the tenant's key: by them verifications are found, equal questions told, and
vendors that keep patients find theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import orjson

from covergate.access.caller import Caller
from covergate.db.data_keys import DataKey
from covergate.verifications.request import VendorOptions

_WAYS_TO_REACH = {"patient": ("email", "phone"), "subscriber": ("phone",)}


def member_digest_parts(caller: Caller, member_id: str) -> tuple[str, str, str]:
    return caller.tenant_id, caller.mode, _normal(member_id)


def _normal(member_id: str) -> str:
    """Member ids are compared without case, blanks and dashes."""
    return "".join(member_id.upper().replace("-", "").split())


def birth_digest_parts(caller: Caller, born: date) -> tuple[str, str, str]:
    return caller.tenant_id, caller.mode, born.isoformat()


def digests_of(key: DataKey, mode: str, stated: Mapping[str, Any], options: VendorOptions) -> dict[str, bytes]:
    """Column → the digest by which a verification of the key's tenant is found. `stated`: the inquiry's JSON."""
    patient = stated["patient"]
    return {
        "member_digest": key.digest("member", key.owner, mode, _normal(patient["member_id"])),
        "birth_digest": key.digest("birth", key.owner, mode, patient["date_of_birth"]),
        "inquiry_digest": key.digest("inquiry", key.owner, mode, question_text(stated, options)),
    }


def question_text(stated: Mapping[str, Any], options: VendorOptions) -> str:
    """What makes two inquiries the same question: patient, subscriber, payer, provider, service, and the vendors' options;
    not how to reach anybody."""
    asked = dict(stated)
    for person, ways in _WAYS_TO_REACH.items():
        if asked[person] is not None:
            asked[person] = {name: value for name, value in asked[person].items() if name not in ways}
    # Most requests have none: then there is nothing that is no default.
    chosen = options.model_dump(mode="json", exclude_defaults=True) if options.model_fields_set else {}
    if chosen := {name: each for name, each in chosen.items() if each}:
        asked["vendor_options"] = chosen
    return orjson.dumps(asked, option=orjson.OPT_SORT_KEYS).decode().casefold()


def person_keys(key: DataKey, mode: str, stated: Mapping[str, Any]) -> tuple[str, str]:
    """`patient_key` and `person_key`: one person of one tenant, for vendors that keep patients, with this member id and without
    any. Hex, so that they fit any vendor's id field.
    """
    patient = stated["patient"]
    names = (" ".join(patient[name].split()).casefold() for name in ("first_name", "last_name"))
    person = (mode, *names, patient["date_of_birth"])
    return key.name(key.owner, mode, _normal(patient["member_id"]), *person).hex(), key.name(*person).hex()
