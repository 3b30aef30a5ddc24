"""What changed between two locks: kinds, folding, order, and words."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from support.changed_locks import BOTH, lock_of, package, wheel

from envbox.lockfile import Base, Lock, LockedPackage
from envbox.locks.inspect.changes import alike, changes, details, summary
from envbox.locks.inspect.tables import lines
from envbox.locks.inspect.versions import compare, version_key


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (None, package("numpy"), "added"),
        (package("numpy"), None, "removed"),
        (package("numpy", "1.9"), package("numpy", "1.10"), "upgraded"),
        (package("numpy", "1.10"), package("numpy", "1.9"), "downgraded"),
        (package("numpy", build="h1_0"), package("numpy", build="h1_1"), "rebuilt"),
        (package("numpy"), replace(package("numpy"), sha256="f" * 64), "rebuilt"),
        (
            package("numpy"),
            replace(package("numpy"), url="https://x/y/linux-64/numpy-1.0-0.conda"),
            "rebuilt",
        ),
    ],
)
def test_a_change_is_of_one_kind(
    before: LockedPackage | None, after: LockedPackage | None, kind: str
) -> None:
    old, new = (lock_of(*filter(None, [one])) for one in (before, after))
    (found,) = changes(old, new)
    assert (found.name, found.kind, found.platforms) == ("numpy", kind, ("linux-64",))
    assert (found.before, found.after) == (before, after)


def test_what_is_the_same_is_no_change() -> None:
    lock = lock_of(package("numpy"), wheel("six"))
    told_more = replace(lock, packages=tuple(replace(p, size=1, license="MIT") for p in lock.packages))
    assert changes(lock, told_more) == ()
    assert summary(()) == "no change"
    assert list(lines(())) == []


def test_without_a_lock_before_everything_is_added() -> None:
    found = changes(None, lock_of(wheel("a"), package("z"), package("b")))
    assert [(c.manager, c.name, c.kind) for c in found] == [
        ("conda", "b", "added"), ("conda", "z", "added"), ("pip", "a", "added"),
    ]  # fmt: skip


def test_platforms_that_change_alike_are_one_change_and_others_are_not() -> None:
    def lock(version: str, build: str, third: str) -> Lock:
        one = [package("numpy", version, f"{build}{p}_0", p) for p in BOTH]
        return lock_of(*one, package("numpy", third, "0", "osx-64"), platforms=(*BOTH, "osx-64"))

    found = changes(lock("1.0", "a", "1.0"), lock("1.1", "b", "1.2"))
    assert [(c.platforms, c.kind) for c in found] == [(BOTH, "upgraded"), (("osx-64",), "upgraded")]
    rebuilt = changes(lock("1.0", "a", "1.0"), lock("1.0", "b", "1.0"))
    assert [c.platforms for c in rebuilt] == [("linux-64",), ("linux-aarch64",)]  # each has its own build
    (each, _) = alike(lock("1.0", "a", "1.0"), lock("1.1", "b", "1.2"))
    assert [c.after.build for c in each if c.after] == ["blinux-64_0", "blinux-aarch64_0"]


def test_a_summary_counts_by_kind() -> None:
    old = lock_of(package("a"), package("b"), package("c", "2"))
    new = lock_of(package("b", "1.1"), package("c", "1"), package("d"), package("e"))
    assert summary(changes(old, new)) == "2 added, 1 removed, 1 upgraded, 1 downgraded"


def test_lines_are_aligned_and_name_a_platform_only_where_it_tells_something() -> None:
    old = lock_of(*(package("numpy", "1.9", platform=p) for p in BOTH), wheel("six"), platforms=BOTH)
    new = lock_of(*(package("numpy", "1.10", platform=p) for p in BOTH), platforms=BOTH)
    assert list(lines(changes(old, new), BOTH)) == [
        "upgraded  numpy      1.9 → 1.10",
        "removed   six (pip)  1.0         linux-64",
    ]
    rebuilt = changes(lock_of(package("a", build="x_0")), lock_of(package("a", build="x_1")))
    assert list(lines(rebuilt)) == ["rebuilt  a  1.0 x_0 → x_1  linux-64"]


def test_a_new_platform_is_one_line() -> None:
    names = [f"p{number}" for number in range(30)]
    old = lock_of(*map(package, names))
    new = lock_of(
        *old.packages, *(package(n, platform="osx-64") for n in names), platforms=("linux-64", "osx-64")
    )
    assert list(lines(changes(old, new))) == ["added  30 packages  osx-64"]
    assert [(d.what, d.before, d.after) for d in details(old, new)] == [("osx-64", None, "30 packages")]


def test_what_changed_besides_packages_is_told() -> None:
    old = replace(lock_of(package("a")), base=Base("b:1", {"linux-64": "sha256:1"}, {"linux-64": "2.36"}))
    new = replace(
        old, base=Base("b:1", {"linux-64": "sha256:2"}, {"linux-64": "2.36"}), channels=("x",),
        variables={"A": "1"}, exclude_newer="2024-01-01", virtual={"linux-64": {"__cuda": "12.4"}},
    )  # fmt: skip
    assert [(d.what, d.before, d.after) for d in details(old, new)] == [
        ("channels", "conda-forge", "x"),
        ("base (linux-64)", "sha256:1", "sha256:2"),
        ("__cuda (linux-64)", None, "12.4"),
        ("variable A", None, "1"),
        ("exclude-newer", None, "2024-01-01"),
    ]
    assert details(old, old) == details(None, old) == ()


VERSIONS = [
    "0.4", "0.4.1.rc", "0.4.1", "0.5a1", "0.5b3", "0.5c1", "0.5", "0.9.6", "0.960923", "1.0",
    "1.1dev1", "1.1a1", "1.1.0dev1", "1.1.dev1", "1.1.a1", "1.1.0rc1", "1.1.0", "1.1.0post1",
    "1.1post1", "1996.07.12", "1!0.4.1", "1!3.1.1.6", "2!0.4.1", "1.0.1_", "1.0.1a", "1.0.1",
    "1.0.1post.a", "1.0.1dev", "2.0+abc.1", "2.0", "2.0+abc", "2024a", "2024b", "1.2.3-4", "9e",
    "1_1", "1.1",
]  # fmt: skip


def test_the_order_of_versions_is_the_solvers() -> None:
    from rattler import Version

    for one in VERSIONS:
        for other in VERSIONS:
            a, b = Version(one), Version(other)
            assert compare(one, other) == (a > b) - (a < b), (one, other)
    shuffled = random.Random(1).sample(VERSIONS, len(VERSIONS))
    newest = max(shuffled, key=version_key)
    assert all(Version(newest) >= Version(other) for other in VERSIONS)
