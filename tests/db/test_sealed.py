from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covergate.db.sealing import KeyRing, Sealer, SealError, key_id_of
from covergate.errors import ConfigurationError

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
PLACE = ("verifications", "inquiry_sealed", "ver_1")
TEXT = b"Jane Sample"
DIGEST = "360c6ab5a3261809bf2f539ca44fb195ba69b38771b730072d48cd9bdc775d22"
FINGERPRINT = "8d0c8fe5fb2ce5fd50d6686299b2fac5f50ebb65c1c9b4950358722aafc0b132"


def ring(**keys: bytes) -> KeyRing:
    return KeyRing(keys)


def test_what_was_sealed_opens_and_is_not_to_be_seen() -> None:
    sealer = Sealer(ring(k1=OLD))
    sealed = sealer.seal(*PLACE, TEXT)
    assert sealer.open(*PLACE, sealed) == TEXT
    assert TEXT not in sealed
    assert sealer.seal(*PLACE, TEXT) != sealed


@given(st.binary(max_size=300), st.text(max_size=40))
def test_any_bytes_in_any_row(data: bytes, row_id: str) -> None:
    sealer = Sealer(ring(k1=OLD))
    assert sealer.open("t", "c", row_id, sealer.seal("t", "c", row_id, data)) == data


@pytest.mark.parametrize(
    "place",
    [
        ("attempts", "inquiry_sealed", "ver_1"),
        ("verifications", "result_sealed", "ver_1"),
        ("verifications", "inquiry_sealed", "ver_2"),
        ("verifications", "inquiry_sealedver", "_1"),
        ("verificationsi", "nquiry_sealed", "ver_1"),
    ],
)
def test_a_value_opens_only_in_its_place(place: tuple[str, str, str]) -> None:
    sealer = Sealer(ring(k1=OLD))
    with pytest.raises(SealError):
        sealer.open(*place, sealer.seal(*PLACE, TEXT))


def test_the_first_key_seals_and_every_key_opens() -> None:
    before = Sealer(ring(k1=OLD)).seal(*PLACE, TEXT)
    sealer = Sealer(ring(k2=NEW, k1=OLD))
    assert sealer.open(*PLACE, before) == TEXT
    assert (key_id_of(before), key_id_of(sealer.seal(*PLACE, TEXT))) == ("k1", "k2")
    assert sealer.current_key_id == "k2"


def test_a_key_that_is_gone_or_another_is_told() -> None:
    sealed = Sealer(ring(k1=OLD)).seal(*PLACE, TEXT)
    with pytest.raises(SealError, match="k1, which is not in the ring"):
        Sealer(ring(k2=NEW)).open(*PLACE, sealed)
    with pytest.raises(SealError, match="does not open under key k1"):
        Sealer(ring(k1=NEW)).open(*PLACE, sealed)


@given(st.data())
def test_a_changed_or_cut_value_does_not_open(data: st.DataObject) -> None:
    sealer = Sealer(ring(k1=OLD))
    sealed = sealer.seal(*PLACE, TEXT)
    position = data.draw(st.integers(0, len(sealed) - 1))
    flipped = sealed[:position] + bytes([sealed[position] ^ data.draw(st.integers(1, 255))]) + sealed[position + 1 :]
    for broken in (flipped, sealed[:position], b""):
        with pytest.raises(SealError):
            sealer.open(*PLACE, broken)


def test_json_is_sealed_once_encoded_or_not() -> None:
    sealer = Sealer(ring(k1=OLD))
    value = {"name": "Jane Sample", "amounts": [1, None, "2.50"]}
    for given_value in (value, b'{"name":"Jane Sample","amounts":[1,null,"2.50"]}'):
        assert sealer.open_json(*PLACE, sealer.seal_json(*PLACE, given_value)) == value


def test_digests_are_equal_for_equal_parts_only() -> None:
    sealer = Sealer(ring(k1=OLD))
    digest = sealer.digest("member", "ten_1", "live", "ABC123")
    assert digest == Sealer(ring(k1=OLD)).digest("member", "ten_1", "live", "ABC123")
    others = [
        sealer.digest("birth", "ten_1", "live", "ABC123"),
        sealer.digest("member", "ten_1", "liveA", "BC123"),
        sealer.digest("member", "ten_1", "live", "ABC123", ""),
        Sealer(ring(k1=NEW)).digest("member", "ten_1", "live", "ABC123"),
        sealer.fingerprint("k1"),
    ]
    assert len({digest, *others}) == 6
    assert len(digest) == 32


def test_a_lookup_tries_every_key_the_current_one_first() -> None:
    old, both = Sealer(ring(k1=OLD)), Sealer(ring(k2=NEW, k1=OLD))
    assert both.digests("member", "x") == [both.digest("member", "x"), old.digest("member", "x")]


def test_digests_and_fingerprints_stay_what_they_are() -> None:
    # Stored ones are compared with these: a change of derivation would lose every look-up and refuse every key.
    sealer = Sealer(ring(k1=OLD))
    assert sealer.digest("member", "ten_1", "live", "ABC123").hex() == DIGEST
    assert sealer.fingerprint("k1").hex() == FINGERPRINT


def test_a_ring_is_read_in_order_from_either_base64() -> None:
    key = bytes([255] * 32)
    plain, url_safe = base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode()
    read = KeyRing.parse(f" k2:{plain} ,\nk1:{url_safe}\n")
    assert list(read.keys.items()) == [("k2", key), ("k1", key)]
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
    ],
)
def test_a_wrong_ring_is_told_without_repeating_it(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        KeyRing.parse(text)
    assert "c2Vj" not in str(caught.value)


def test_no_repr_shows_a_key() -> None:
    shown = repr(ring(k1=OLD)) + repr(Sealer(ring(k1=OLD)))
    assert repr(OLD)[2:20] not in shown
