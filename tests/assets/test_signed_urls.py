"""Signed URLs: valid for one image until one second, and for nothing else."""

import re
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.assets.object_keys import InvalidKey, make_object_key
from gateway.assets.signed_urls import UrlSigner
from tests.assets.storage_scenarios import JOB, KEY

OTHER_KEY = make_object_key(JOB, "output-1.png")
BASE_URL = "https://images.example.com"
OLD_SECRET, NEW_SECRET = b"the old secret, of enough bytes", b"the new secret, of enough bytes"
SIGNER = UrlSigner([NEW_SECRET, OLD_SECRET], BASE_URL)
NOW, EXPIRES_AT = 1_700_000_000.5, 1_700_003_600


def split_url(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.path.removeprefix("/files/"), parts.query


QUERY = split_url(SIGNER.sign(KEY, EXPIRES_AT))[1]


def test_signed_url_verifies() -> None:
    url = SIGNER.sign(KEY, EXPIRES_AT)
    assert re.fullmatch(rf"{BASE_URL}/files/{KEY}\?exp={EXPIRES_AT}&sig=[\w-]{{43}}", url)
    assert split_url(url) == (KEY, QUERY)
    assert SIGNER.verify(KEY, QUERY, NOW)
    assert SIGNER.sign(KEY, EXPIRES_AT) == url


@pytest.mark.parametrize("base", ["", "https://h/", "https://h:8443/gateway", "http://127.0.0.1:8080//"])
def test_any_base_url_works(base: str) -> None:
    url = UrlSigner([NEW_SECRET], base).sign(KEY, EXPIRES_AT)
    assert url.startswith(f"{base.rstrip('/')}/files/{KEY}?")
    assert SIGNER.verify(KEY, url.partition("?")[2], NOW)


def test_signed_url_expires() -> None:
    assert SIGNER.verify(KEY, QUERY, EXPIRES_AT - 0.001)
    assert not SIGNER.verify(KEY, QUERY, EXPIRES_AT)
    assert not SIGNER.verify(KEY, QUERY, EXPIRES_AT + 10**9)
    assert not SIGNER.verify(KEY, QUERY, float("nan"))


def test_rotating_secret_keeps_urls_valid() -> None:
    old_query = split_url(UrlSigner([OLD_SECRET], BASE_URL).sign(KEY, EXPIRES_AT))[1]
    assert SIGNER.verify(KEY, old_query, NOW)
    assert UrlSigner([OLD_SECRET, NEW_SECRET], BASE_URL).verify(KEY, QUERY, NOW)
    assert not UrlSigner([OLD_SECRET], BASE_URL).verify(KEY, QUERY, NOW)
    assert not UrlSigner([b"another"], BASE_URL).verify(KEY, QUERY, NOW)
    assert old_query != QUERY


SIGNATURE = QUERY.partition("&")[2]


@pytest.mark.parametrize(
    "query",
    [
        "",
        SIGNATURE,
        f"exp={EXPIRES_AT}",
        f"{SIGNATURE}&exp={EXPIRES_AT}",
        f"{QUERY}&exp={EXPIRES_AT}",
        f"exp={EXPIRES_AT}&{QUERY}",
        f"{QUERY}&{SIGNATURE}",
        f"{QUERY}&download=1",
        f"{QUERY}&",
        f"?{QUERY}",
        f"{QUERY}#x",
        f"{QUERY}\n",
        f"{QUERY}=",
        QUERY.replace("&", ";"),
        QUERY.replace("exp=", "exp=0"),
        QUERY.replace("exp=", "exp=+"),
        QUERY.replace("exp=", "exp=%20"),
        QUERY.replace("exp=1", "exp=%31"),
        QUERY.replace("exp=1", "exp=١"),
        QUERY.replace("exp", "EXP"),
        QUERY.replace(str(EXPIRES_AT), str(EXPIRES_AT + 1)),
        QUERY.replace(str(EXPIRES_AT), "9" * 5_000),
        QUERY.replace(str(EXPIRES_AT), "inf"),
        f"exp={EXPIRES_AT}&sig=",
        f"exp={EXPIRES_AT}&sig={'A' * 43}",
        f"exp=&{SIGNATURE}",
        split_url(SIGNER.sign(OTHER_KEY, EXPIRES_AT))[1],
        "\ud800",
    ],
    ids=ascii,
)
def test_altered_query_is_rejected(query: str) -> None:
    assert not SIGNER.verify(KEY, query, NOW)


@pytest.mark.parametrize("key", ["", OTHER_KEY, f"/{KEY}", f"{KEY}/", KEY.replace("48/", "47/"), "../" + KEY, "\ud800"])
def test_signature_is_valid_for_one_key_only(key: str) -> None:
    assert not SIGNER.verify(key, QUERY, NOW)


@settings(max_examples=400)
@given(st.data())
def test_any_changed_byte_is_rejected(data: st.DataObject) -> None:
    signed = f"{KEY}?{QUERY}"
    position = data.draw(st.integers(0, len(signed) - 1))
    replaced = data.draw(st.characters().filter(lambda letter: letter != signed[position]))
    changed = data.draw(st.sampled_from([replaced, "", replaced + signed[position]]))
    key, _, query = (signed[:position] + changed + signed[position + 1 :]).partition("?")
    assert not SIGNER.verify(key, query, NOW)


@given(st.text(), st.text())
def test_arbitrary_text_is_rejected_without_exception(key: str, query: str) -> None:
    assert not SIGNER.verify(key, query, 0)
    assert not SIGNER.verify(KEY, query, 0)


@given(st.binary(min_size=1), st.binary(min_size=1), st.integers(1, 10**12 - 1))
def test_secrets_do_not_verify_each_others_signatures(first: bytes, second: bytes, expires: int) -> None:
    query = split_url(UrlSigner([first], "").sign(KEY, expires))[1]
    assert UrlSigner([first], "").verify(KEY, query, 0)
    assert UrlSigner([second], "").verify(KEY, query, 0) is (first == second)


def test_invalid_key_expiry_or_secret_cannot_be_signed() -> None:
    for expires in (-1, 10**12):
        with pytest.raises(ValueError, match="expires"):
            SIGNER.sign(KEY, expires)
    with pytest.raises(InvalidKey):
        SIGNER.sign("48/../etc/passwd", EXPIRES_AT)
    for secrets in ([], [b""], [NEW_SECRET, b""]):
        with pytest.raises(ValueError, match="secret"):
            UrlSigner(secrets, BASE_URL)
