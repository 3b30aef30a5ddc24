from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from envbox.packages.link.conflicts import Claim, settle


def claim(name: str, paths: str, depends: str = "", *, is_wheel: bool = False) -> Claim:
    listed = tuple(sorted(paths.split()))
    folders = {p.rsplit("/", n)[0] for p in listed for n in range(1, p.count("/") + 1)}
    return Claim(name, frozenset(depends.split()), listed, tuple(sorted(folders)), is_wheel)


def test_packages_that_share_no_path_lose_nothing() -> None:
    assert settle([claim("a", "x/1"), claim("b", "x/2")]) == {}


def test_the_package_that_depends_on_the_other_wins() -> None:
    assert settle([claim("a", "x", "b"), claim("b", "x")]) == {"b": {"x"}}
    assert settle([claim("a", "x", "c"), claim("c", "", "b"), claim("b", "x")]) == {"b": {"x"}}


def test_among_strangers_the_name_decides() -> None:
    lost = settle([claim("a", "x"), claim("b", "x")])
    assert lost == settle([claim("b", "x"), claim("a", "x")]) == {"b": {"x"}}


def test_a_cycle_of_dependencies_is_settled_by_name() -> None:
    assert settle([claim("a", "x", "b"), claim("b", "x", "a")]) == {"b": {"x"}}


def test_a_wheel_goes_before_conda_packages() -> None:
    assert settle([claim("z", "x"), claim("pip:a", "x", is_wheel=True)]) == {"z": {"x"}}


def test_a_file_where_another_needs_a_folder_is_lost_or_takes_all_in_it() -> None:
    assert settle([claim("b", "lib"), claim("a", "lib/1 lib/2")]) == {"b": {"lib"}}
    assert settle([claim("a", "lib"), claim("b", "lib/1 lib/2 bin/3")]) == {"b": {"lib/1", "lib/2"}}


names = st.sampled_from("abcdef")
paths = st.sets(st.sampled_from(["p", "q", "p/r", "p/s", "t"])).map(
    lambda found: found - {"p"} if found & {"p/r", "p/s"} else found
)
claims = st.dictionaries(names, st.tuples(paths, st.sets(names)), max_size=6).map(
    lambda found: [claim(n, " ".join(p), " ".join(d)) for n, (p, d) in found.items()]
)


@given(claims, st.randoms())
def test_each_path_ends_with_one_owner_whatever_the_order(claims: list[Claim], dice: object) -> None:
    lost = settle(claims)
    kept = [(p, c.name) for c in claims for p in c.paths if p not in lost.get(c.name, ())]
    paths = [p for p, _ in kept]
    assert len(paths) == len(set(paths))
    assert not [p for p in paths for q in paths if q.startswith(p + "/")]
    dice.shuffle(claims)  # type: ignore[attr-defined]
    assert settle(claims) == lost
