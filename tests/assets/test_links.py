"""Signed links: good for one picture until one second, and for nothing else."""

import re
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.assets.keys import NotAKey, key_of
from gateway.assets.links import Links

JOB = "job_48nka7p8pc7avmya1bpy29g0nk5p"
KEY = key_of(JOB, "output-0.png")
OTHER = key_of(JOB, "output-1.png")
BASE = "https://images.example.com"
OLD, NEW = b"the old secret, of enough bytes", b"the new secret, of enough bytes"
LINKS = Links([NEW, OLD], BASE)
NOW, EXPIRES = 1_700_000_000.5, 1_700_003_600


def taken_apart(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.path.removeprefix("/files/"), parts.query


QUERY = taken_apart(LINKS.sign(KEY, EXPIRES))[1]


def test_a_link_leads_to_its_picture() -> None:
    url = LINKS.sign(KEY, EXPIRES)
    assert re.fullmatch(rf"{BASE}/files/{KEY}\?exp={EXPIRES}&sig=[\w-]{{43}}", url)
    assert taken_apart(url) == (KEY, QUERY)
    assert LINKS.check(KEY, QUERY, NOW)
    assert LINKS.sign(KEY, EXPIRES) == url


@pytest.mark.parametrize("base", ["", "https://h/", "https://h:8443/gateway", "http://127.0.0.1:8080//"])
def test_any_base_will_do(base: str) -> None:
    url = Links([NEW], base).sign(KEY, EXPIRES)
    assert url.startswith(f"{base.rstrip('/')}/files/{KEY}?")
    assert LINKS.check(KEY, url.partition("?")[2], NOW)


def test_it_expires() -> None:
    assert LINKS.check(KEY, QUERY, EXPIRES - 0.001)
    assert not LINKS.check(KEY, QUERY, EXPIRES)
    assert not LINKS.check(KEY, QUERY, EXPIRES + 10**9)
    assert not LINKS.check(KEY, QUERY, float("nan"))


def test_a_secret_is_replaced_without_breaking_links() -> None:
    before = taken_apart(Links([OLD], BASE).sign(KEY, EXPIRES))[1]
    assert LINKS.check(KEY, before, NOW)
    assert Links([OLD, NEW], BASE).check(KEY, QUERY, NOW)
    assert not Links([OLD], BASE).check(KEY, QUERY, NOW)
    assert not Links([b"another"], BASE).check(KEY, QUERY, NOW)
    assert before != QUERY


SIGNATURE = QUERY.partition("&")[2]


@pytest.mark.parametrize(
    "query",
    [
        "",
        SIGNATURE,
        f"exp={EXPIRES}",
        f"{SIGNATURE}&exp={EXPIRES}",
        f"{QUERY}&exp={EXPIRES}",
        f"exp={EXPIRES}&{QUERY}",
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
        QUERY.replace(str(EXPIRES), str(EXPIRES + 1)),
        QUERY.replace(str(EXPIRES), "9" * 5_000),
        QUERY.replace(str(EXPIRES), "inf"),
        f"exp={EXPIRES}&sig=",
        f"exp={EXPIRES}&sig={'A' * 43}",
        f"exp=&{SIGNATURE}",
        taken_apart(LINKS.sign(OTHER, EXPIRES))[1],
        "\ud800",
    ],
    ids=ascii,
)
def test_what_we_did_not_write_is_refused(query: str) -> None:
    assert not LINKS.check(KEY, query, NOW)


@pytest.mark.parametrize("key", ["", OTHER, f"/{KEY}", f"{KEY}/", KEY.replace("48/", "47/"), "../" + KEY, "\ud800"])
def test_it_is_good_for_no_other_picture(key: str) -> None:
    assert not LINKS.check(key, QUERY, NOW)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_change_of_any_byte_is_refused(data: st.DataObject) -> None:
    whole = f"{KEY}?{QUERY}"
    position = data.draw(st.integers(0, len(whole) - 1))
    replaced = data.draw(st.characters().filter(lambda letter: letter != whole[position]))
    changed = data.draw(st.sampled_from([replaced, "", replaced + whole[position]]))
    key, _, query = (whole[:position] + changed + whole[position + 1 :]).partition("?")
    assert not LINKS.check(key, query, NOW)


@given(st.text(), st.text())
def test_any_text_is_refused_without_an_exception(key: str, query: str) -> None:
    assert not LINKS.check(key, query, 0)
    assert not LINKS.check(KEY, query, 0)


@settings(deadline=None)
@given(st.binary(min_size=1), st.binary(min_size=1), st.integers(1, 10**12 - 1))
def test_secrets_do_not_sign_for_each_other(one: bytes, other: bytes, expires: int) -> None:
    query = taken_apart(Links([one], "").sign(KEY, expires))[1]
    assert Links([one], "").check(KEY, query, 0)
    assert Links([other], "").check(KEY, query, 0) is (one == other)


def test_what_cannot_be_signed() -> None:
    for expires in (-1, 10**12):
        with pytest.raises(ValueError, match="expires"):
            LINKS.sign(KEY, expires)
    with pytest.raises(NotAKey):
        LINKS.sign("48/../etc/passwd", EXPIRES)
    for secrets in ([], [b""], [NEW, b""]):
        with pytest.raises(ValueError, match="secret"):
            Links(secrets, BASE)
