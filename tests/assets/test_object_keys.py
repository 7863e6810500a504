"""Object keys contain no text of clients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.assets.object_keys import (
    InvalidKey,
    make_object_key,
    make_object_prefix,
    validate_key,
    validate_object_prefix,
)
from gateway.store.partitions import encode_hour, get_job_hour, is_job_id, new_job_id

JOB = "job_48nka7p8pc7avmya1bpy29g0nk5p"
KEY = f"48/{JOB}/output-0.png"
UNSAFE_NAMES = [
    "",
    ".",
    "..",
    "../x.png",
    "..\\x.png",
    "/etc/passwd",
    "a/b.png",
    "a\\b.png",
    "a\0.png",
    "a.png\n",
    "a.png\0",
    ".a.png",
    "a..png",
    "a.tar.png",
    "a.",
    "-a.png",
    "A.png",
    "ä.png",
    "а.png",  # a Cyrillic letter
    "１.png",
    "a b.png",
    "a%2fb.png",
    "%2e%2e",
    "a?b.png",
    "a#b",
    "a:b",
    "a*",
    "~",
    "a.png/",
    "a" * 81,
    "a" * 10_000 + ".png",
    "a.endlessending",
    "\ud800.png",
    "con:",
    "a;rm -rf.png",
    "$(a).png",
    "a&b=c",
]


def test_key_starts_with_partition_of_job() -> None:
    assert make_object_key(JOB, "output-0.png") == KEY
    assert make_object_prefix(JOB) == f"48/{JOB}/"
    assert validate_key(KEY) == KEY
    assert validate_object_prefix(make_object_prefix(JOB)) == make_object_prefix(JOB)


@pytest.mark.parametrize("name", ["output-0.png", "input-12.jpeg", "mask.webp", "f" * 64 + ".png", "check", "a_1"])
def test_names_made_by_gateway_are_valid(name: str) -> None:
    assert validate_key(make_object_key(new_job_id("team"), name))


@pytest.mark.parametrize("name", UNSAFE_NAMES, ids=ascii)
def test_unsafe_names_are_rejected_and_not_repeated(name: str) -> None:
    for attempt in (
        lambda: make_object_key(JOB, name),
        lambda: validate_key(f"48/{JOB}/{name}"),
        lambda: validate_key(name),
    ):
        with pytest.raises(InvalidKey) as error_info:
            attempt()
        assert len(name) < 4 or name not in str(error_info.value)


@pytest.mark.parametrize(
    "job",
    [
        "",
        "job_",
        JOB[:-1],
        JOB + "a",
        JOB + "\n",
        JOB.upper(),
        JOB.replace("job_48", "job_64"),
        JOB.replace("job_48", "job_99"),
        JOB.replace("48", "٤٨"),
        JOB.replace("n", "/"),
        "../" * 9 + "etc",
        f"x{JOB}",
    ],
)
def test_invalid_job_id_has_no_key(job: str) -> None:
    with pytest.raises(InvalidKey):
        make_object_key(job, "output-0.png")
    with pytest.raises(InvalidKey):
        make_object_prefix(job)


MALFORMED_KEYS = [
    f"47/{JOB}/a.png",
    f"/48/{JOB}/a.png",
    f"48//{JOB}/a.png",
    f"48/{JOB}",
    f"./48/{JOB}/a.png",
    f"048/{JOB}/a.png",
    f"48/../48/{JOB}/a.png",
    f"48/{JOB}/../{JOB}/a.png",
    f"48/{JOB}/a.png/",
    f"48/{JOB}/",
    "48",
    "//",
]


@pytest.mark.parametrize("key", MALFORMED_KEYS)
def test_malformed_key_is_rejected(key: str) -> None:
    with pytest.raises(InvalidKey):
        validate_key(key)


@pytest.mark.parametrize(
    "prefix", ["", "/", "//", "48/", "48", f"48/{JOB}", KEY, f"47/{JOB}/", f"48/{JOB}//", f"48/{JOB[:-1]}/", "48//"]
)
def test_prefix_must_belong_to_one_job(prefix: str) -> None:
    with pytest.raises(InvalidKey):
        validate_object_prefix(prefix)


@given(st.text(), st.text())
def test_accepted_keys_contain_only_plain_characters(job: str, name: str) -> None:
    for given_job in (job, JOB):
        try:
            key = make_object_key(given_job, name)
        except InvalidKey:
            continue
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-./")
        assert "." not in key.rsplit("/", 1)[1].split(".")[0]
        assert key.count("/") == 2


def test_job_id_contains_its_hour() -> None:
    for hour, encoded in ((0, "aaaa"), (1, "aaab"), (32, "aaba"), (499_000, "phjy")):
        job_id = new_job_id("team", now=lambda hour=hour: hour * 3_600.0 + 3_599.0)  # type: ignore[misc]
        assert get_job_hour(job_id) == encode_hour(hour * 3_600.0)
        assert get_job_hour(job_id) == encoded
        assert is_job_id(job_id)
