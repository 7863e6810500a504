"""Keys hold nothing that anybody else has written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.assets.keys import NotAKey, key_of, prefix_of, require_key, require_prefix
from gateway.store.partitions import new_job_id

JOB = "job_48nka7p8pc7avmya1bpy29g0nk5p"
KEY = f"48/{JOB}/output-0.png"
EVIL = [
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


def test_a_key_begins_with_the_jobs_partition() -> None:
    assert key_of(JOB, "output-0.png") == KEY
    assert prefix_of(JOB) == f"48/{JOB}/"
    assert require_key(KEY) == KEY
    assert require_prefix(prefix_of(JOB)) == prefix_of(JOB)


@pytest.mark.parametrize("name", ["output-0.png", "input-12.jpeg", "mask.webp", "f" * 64 + ".png", "check", "a_1"])
def test_our_own_names_will_do(name: str) -> None:
    assert require_key(key_of(new_job_id("team"), name))


@pytest.mark.parametrize("name", EVIL, ids=ascii)
def test_other_names_are_refused_and_not_repeated(name: str) -> None:
    for attempt in (lambda: key_of(JOB, name), lambda: require_key(f"48/{JOB}/{name}"), lambda: require_key(name)):
        with pytest.raises(NotAKey) as refused:
            attempt()
        assert len(name) < 4 or name not in str(refused.value)


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
def test_what_is_no_job_has_no_keys(job: str) -> None:
    with pytest.raises(NotAKey):
        key_of(job, "output-0.png")
    with pytest.raises(NotAKey):
        prefix_of(job)


NOT_OURS = [
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


@pytest.mark.parametrize("key", NOT_OURS)
def test_what_is_not_made_by_us_is_no_key(key: str) -> None:
    with pytest.raises(NotAKey):
        require_key(key)


@pytest.mark.parametrize(
    "prefix", ["", "/", "//", "48/", "48", f"48/{JOB}", KEY, f"47/{JOB}/", f"48/{JOB}//", f"48/{JOB[:-1]}/", "48//"]
)
def test_a_prefix_is_always_one_jobs(prefix: str) -> None:
    with pytest.raises(NotAKey):
        require_prefix(prefix)


@given(st.text(), st.text())
def test_whatever_passes_is_plain(job: str, name: str) -> None:
    for given_job in (job, JOB):
        try:
            key = key_of(given_job, name)
        except NotAKey:
            continue
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-./")
        assert "." not in key.rsplit("/", 1)[1].split(".")[0]
        assert key.count("/") == 2
