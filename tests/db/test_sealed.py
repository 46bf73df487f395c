from __future__ import annotations

import base64
import math
import os
import zlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from covergate.db.data_keys import new_key
from covergate.db.ring import prefixed
from covergate.db.sealing import GATEWAY, PACKED, KeyRing, Place, SealError, key_id_of
from covergate.errors import ConfigurationError
from tests.support.sealers import NEW, OLD, OURS, THEIRS, ring, sealer_with, usual_sealer

PLACE = Place(OURS, "live", "verifications", "inquiry", "ver_1", "ver_1")
TEXT = b"Jane Sample"
DIGEST = "360c6ab5a3261809bf2f539ca44fb195ba69b38771b730072d48cd9bdc775d22"
FINGERPRINT = "8d0c8fe5fb2ce5fd50d6686299b2fac5f50ebb65c1c9b4950358722aafc0b132"


def sealed_before(table: str, column: str, row_id: str, data: bytes, key_id: str = "k1", key: bytes = OLD) -> bytes:
    """As the code before there were data keys did."""
    nonce = os.urandom(12)
    header = bytes([1, len(key_id)]) + key_id.encode()
    return header + nonce + AESGCM(key).encrypt(nonce, data, prefixed(table, column, row_id))


def test_what_was_sealed_opens_and_is_not_to_be_seen() -> None:
    sealer = usual_sealer()
    sealed = sealer.seal(PLACE, TEXT)
    assert sealer.open(PLACE, sealed) == TEXT
    assert TEXT not in sealed
    assert sealer.seal(PLACE, TEXT) != sealed
    assert key_id_of(sealed) == sealer.current_key(OURS).id


@given(st.binary(max_size=300), st.text(max_size=40))
def test_any_bytes_in_any_row(data: bytes, row_id: str) -> None:
    sealer, place = usual_sealer(), PLACE._replace(row_id=row_id)
    assert sealer.open(place, sealer.seal(place, data)) == data
    assert sealer.open(place, sealer.seal(place, data * 9, packed=True)) == data * 9


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant_id": THEIRS},
        {"tenant_id": GATEWAY},
        {"mode": "test"},
        {"table": "attempts"},
        {"column": "result"},
        {"row_id": "ver_2"},
        {"verification_id": "ver_2"},
        {"row_id": "ver_1ver_1", "verification_id": ""},
        {"table": "verificationsi", "column": "nquiry"},
    ],
)
def test_a_value_opens_only_in_its_place_and_for_its_tenant(changes: dict[str, str]) -> None:
    sealer = usual_sealer()
    with pytest.raises(SealError):
        sealer.open(PLACE._replace(**changes), sealer.seal(PLACE, TEXT))


def test_the_newest_key_whose_time_has_come_seals_and_every_key_opens() -> None:
    first, second, third = new_key(OURS), new_key(OURS), new_key(OURS)
    before = sealer_with(first).seal(PLACE, TEXT)
    third.seals_at = math.inf
    sealer = sealer_with(third, second, first)
    assert sealer.open(PLACE, before) == TEXT
    assert key_id_of(sealer.seal(PLACE, TEXT)) == second.id
    with pytest.raises(SealError, match="no key of this tenant"):
        sealer_with(second).open(PLACE, before)


def test_another_key_under_a_known_id_does_not_open() -> None:
    key = new_key(OURS)
    sealed = sealer_with(key).seal(PLACE, TEXT)
    with pytest.raises(SealError, match="does not open under dky_"):
        sealer_with(replace(key, secret=os.urandom(32))).open(PLACE, sealed)


def test_a_value_opens_only_as_the_version_and_under_the_id_that_it_was_sealed_with() -> None:
    key = new_key(OURS)
    twin = replace(key, id=new_key(OURS).id)
    sealer = sealer_with(key, twin)
    plain = sealer.seal(PLACE, zlib.compress(TEXT))
    with pytest.raises(SealError):
        sealer.open(PLACE, bytes([PACKED]) + plain[1:])
    with pytest.raises(SealError):
        sealer.open(PLACE, plain[:1] + twin.tag + plain[17:])


def test_a_tenant_without_a_key_is_told() -> None:
    with pytest.raises(SealError, match="no data key for ten_new"):
        usual_sealer().seal(PLACE._replace(tenant_id="ten_new"), TEXT)


@given(st.data())
def test_a_changed_or_cut_value_does_not_open(data: st.DataObject) -> None:
    sealer = usual_sealer()
    sealed = sealer.seal(PLACE, TEXT)
    position = data.draw(st.integers(0, len(sealed) - 1))
    flipped = sealed[:position] + bytes([sealed[position] ^ data.draw(st.integers(1, 255))]) + sealed[position + 1 :]
    for broken in (flipped, sealed[:position], b""):
        with pytest.raises(SealError):
            sealer.open(PLACE, broken)


def test_a_value_from_before_opens_only_while_its_tenant_may_have_such() -> None:
    old = sealed_before("verifications", "inquiry", "ver_1", TEXT)
    assert sealer_with(new_key(OURS, old_values=True)).open(PLACE, old) == TEXT
    with pytest.raises(SealError, match="of a form that this tenant has no more"):
        sealer_with(new_key(OURS)).open(PLACE, old)
    # A row of the table that somebody put back is older than the key that came after it.
    with pytest.raises(SealError, match="of a form"):
        sealer_with(new_key(OURS), new_key(OURS, old_values=True)).open(PLACE, old)
    with pytest.raises(SealError, match="k1, which is not in the ring"):
        sealer_with(new_key(OURS, old_values=True), of=ring(k2=NEW)).open(PLACE, old)
    with pytest.raises(SealError, match="does not open under key k1"):
        sealer_with(new_key(OURS, old_values=True)).open(PLACE._replace(row_id="ver_2"), old)


def test_json_is_sealed_once_encoded_or_not() -> None:
    sealer = usual_sealer()
    value = {"name": "Jane Sample", "amounts": [1, None, "2.50"]}
    for given_value in (value, b'{"name":"Jane Sample","amounts":[1,null,"2.50"]}'):
        assert sealer.open_json(PLACE, sealer.seal_json(PLACE, given_value)) == value


def test_digests_are_equal_for_equal_parts_of_one_tenant_only() -> None:
    sealer = usual_sealer()
    digest = sealer.digest(OURS, "member", "live", "ABC123")
    assert digest == sealer.digest(OURS, "member", "live", "ABC123")
    others = [
        sealer.digest(OURS, "birth", "live", "ABC123"),
        sealer.digest(OURS, "member", "liveA", "BC123"),
        sealer.digest(OURS, "member", "live", "ABC123", ""),
        sealer.digest(THEIRS, "member", "live", "ABC123"),
        sealer.name(OURS, "live", "ABC123"),
        sealer.ring.fingerprint("k1"),
    ]
    assert len({digest, *others}) == 7
    assert len(digest) == 32


def test_a_lookup_tries_every_key_the_current_one_first() -> None:
    first, second = new_key(OURS), new_key(OURS)
    old, both = sealer_with(first), sealer_with(second, first)
    assert both.digests(OURS, "member", "x") == [both.digest(OURS, "member", "x"), old.digest(OURS, "member", "x")]


def test_digests_from_before_are_found_while_there_may_be_such() -> None:
    # Stored ones are compared with these: a change of derivation would lose every look-up and refuse every key.
    with_old = sealer_with(new_key(OURS, old_values=True))
    assert with_old.digests(OURS, "member", "ten_1", "live", "ABC123")[1:] == [bytes.fromhex(DIGEST)]
    assert len(usual_sealer().digests(OURS, "member", "ten_1", "live", "ABC123")) == 1
    assert ring(k1=OLD).fingerprint("k1").hex() == FINGERPRINT


def test_a_name_outlives_the_key() -> None:
    first = new_key(OURS)
    second = new_key(OURS, naming=first.naming)
    assert sealer_with(second, first).name(OURS, "Jane") == sealer_with(first).name(OURS, "Jane")


def test_a_ring_is_read_in_order_from_either_base64() -> None:
    key, other = bytes(range(224, 256)), bytes(range(255, 223, -1))
    plain, url_safe = base64.b64encode(key).decode(), base64.urlsafe_b64encode(other).decode()
    read = KeyRing.parse(f" k2:{plain} ,\nk1:{url_safe}\n")
    assert list(read.keys.items()) == [("k2", key), ("k1", other)]
    assert read.current_key_id == "k2"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "key 1 .* must be like k1:"),
        ("c2VjcmV0", "key 1 .* must be like k1:"),
        ("k1:", "key 1 .* must be like k1:"),
        ("k 1:c2VjcmV0", "key 1 .* must be like k1:"),
        ("k1:c2VjcmV0", "key 1 .* must be 32 bytes"),
        ("k1:c2Vjc!!!mV0", "key 1 .* must be 32 bytes"),
        ("k1:c2Vjcé", "key 1 .* must be 32 bytes"),
        (f"k1:{base64.b64encode(OLD).decode()},", "key 2 .* must be like k1:"),
        (f"k1:{base64.b64encode(OLD).decode()},k1:{base64.b64encode(NEW).decode()}", "key 2 .* id of an earlier one"),
        (f"k1:{base64.b64encode(bytes(32)).decode()}", "key 1 .* is not random"),
        (f"k1:{base64.b64encode(bytes([7]) * 32).decode()}", "key 1 .* is not random"),
        (f"k1:{base64.b64encode(b'abcd' * 8).decode()}", "key 1 .* is not random"),
        (f"k2:{base64.b64encode(OLD).decode()},k1:{base64.b64encode(OLD).decode()}", "key 2 .* the same bytes"),
    ],
)
def test_a_wrong_ring_is_told_without_repeating_it(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        KeyRing.parse(text)
    assert "c2Vj" not in str(caught.value)


def test_no_repr_shows_a_key() -> None:
    key = new_key(OURS)
    sealer = sealer_with(key)
    shown = repr(ring(k1=OLD)) + repr(sealer) + repr(key)
    assert repr(OLD)[2:20] not in shown
    assert repr(key.secret)[2:20] not in shown
    assert repr(key.naming)[2:20] not in shown
