"""A lock holds canonical addresses; mirrors only say where their bytes come from."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbox.mirrors import Mirrors, public, shown

FORGE = "https://conda.anaconda.org/conda-forge"
MIRRORS = Mirrors({FORGE: "http://127.0.0.1:8000/forge/", "docker.io": "127.0.0.1:5000"})


def test_a_prefix_ends_at_a_slash() -> None:
    assert MIRRORS.rewrite(f"{FORGE}/noarch/x.conda") == "http://127.0.0.1:8000/forge/noarch/x.conda"
    assert MIRRORS.rewrite(f"{FORGE}-nightly/noarch/x.conda") == f"{FORGE}-nightly/noarch/x.conda"
    assert MIRRORS.rewrite("docker.io") == "127.0.0.1:5000"


def test_the_longest_prefix_wins() -> None:
    mirrors = Mirrors({"https://c.org": "http://a", "https://c.org/forge": "http://b"})
    assert mirrors.rewrite("https://c.org/forge/x") == "http://b/x"
    assert mirrors.rewrite("https://c.org/other/x") == "http://a/other/x"


@given(st.text(alphabet="abc/.-_", max_size=30))
def test_canonical_undoes_rewrite(rest: str) -> None:
    url = f"{FORGE}/{rest}"
    assert MIRRORS.canonical(MIRRORS.rewrite(url)) == url


@pytest.mark.parametrize(
    "url",
    [
        "https://me:secret@host/a",
        "https://host/t/secret/a",
        "https://host/a?token=secret",
        "https://host/a#secret",
    ],
)
def test_secrets_in_an_address_are_not_shown(url: str) -> None:
    assert "secret" not in public(url)
    assert public(url).startswith("https://host/")


def test_a_text_keeps_its_words_and_a_wheel_its_folder() -> None:
    said = "no answer (https://me:it's,(1)@host/t/tk-1/lab/a.json), so none from http://b:s3@[::1]:1/x?k=s3."
    assert public(said) == "no answer (https://host/lab/a.json), so none from http://[::1]:1/x."
    wheel = "https://files.pythonhosted.org/packages/t/tqdm/tqdm-4-py3-none-any.whl"
    assert public(f"not at {wheel}") == f"not at {wheel}"
    assert "s3" not in public("cannot parse http://me:s3@[host/x")


def test_what_is_shown_of_a_value_is_short_soon_and_without_secrets() -> None:
    bomb: list[object] = ["x"] * 9
    for _ in range(30):
        bomb = [bomb] * 9
    start = time.process_time()
    for value in (bomb, "x" * 1_000_000, 10**5000, {"a": bomb}, [10**5000], ["https://b:s3cr3t@h/x " * 9]):
        assert len(shown(value)) <= 100
        assert "s3cr3t" not in shown(value)
    assert time.process_time() - start < 2  # seconds
    assert shown("https://b:s3cr3t@h/x") == "'https://h/x'"
    assert shown([1, None]) == "[1, None]"
