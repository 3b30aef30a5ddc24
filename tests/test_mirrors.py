"""A lock holds canonical addresses; mirrors only say where their bytes come from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from envbox.mirrors import Mirrors

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
