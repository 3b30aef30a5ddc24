"""A private name never comes from a lower channel, however it is asked for; all that is missing is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.paper_channel import record, served, write_channel

from envbox.errors import EnvboxError, SolveError, SpecError
from envbox.lockfile import LockedPackage
from envbox.locks.solve import solve
from envbox.locks.solve.request import SolveRequest
from envbox.settings import Settings

PRIVATE = [
    record("secret", "0.9"),
    record("secret", "1.0"),
    record("tool", "1", ["secret"]),
    record("app", "1", ["secret >=1"]),
]
PUBLIC = [
    record("secret", "9.0"),
    record("tool", "5", ["secret"]),
    record("other", "1", ["secret"]),
    record("wants-new", "1", ["secret >=5"]),
    record("wants-exactly", "1", ["secret 9.0"]),
    record("free", "3"),
]
SHA256 = hashlib.sha256(b"secret-9.0-0").hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("channels")
    write_channel(folder / "private", PRIVATE)
    write_channel(folder / "public", PUBLIC)
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with served(folder) as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Settings(tmp_path / "cache", timeout=20)


def answer(
    settings: Settings, channels: list[str], specs: list[str], locked: tuple[LockedPackage, ...] = ()
) -> tuple[LockedPackage, ...]:
    found = solve(
        [SolveRequest("linux-64", tuple(specs), {"__unix": ("0", "0")}, locked)], channels, settings
    )
    if isinstance(error := found["linux-64"], EnvboxError):
        raise error
    return error


def places(found: tuple[LockedPackage, ...]) -> dict[str, tuple[str, str]]:
    return {p.name: (p.version, p.url.split("/")[3]) for p in found}


def both(url: str) -> list[str]:
    return [f"{url}/private", f"{url}/public"]


@pytest.mark.parametrize(
    "spec",
    [
        "secret",
        "SECRET",
        "secret >=0.5",
        "secret 1.*",
        "secret=1.0=0",
        "secret[build_number='>=0']",
        "tool",
        "app",
    ],
)
def test_the_first_channel_that_has_a_name_is_where_it_comes_from(
    settings: Settings, url: str, spec: str
) -> None:
    found = places(answer(settings, both(url), [spec]))
    assert found["secret"] == ("1.0", "private")
    assert {place for _, place in found.values()} == {"private"}


@pytest.mark.parametrize(
    "spec",
    [
        "secret >=2", "secret 9.0", "secret ==9.0", "secret=9", "secret=9.0=0", "secret[version='>=2']",
        f"secret[md5={hashlib.md5(b'secret-9.0-0').hexdigest()}]",
    ],
)  # fmt: skip
def test_no_bound_leads_to_a_lower_channel(settings: Settings, url: str, spec: str) -> None:
    with pytest.raises(SolveError, match=r"^no secret.* in http\S+/private for linux-64$") as caught:
        answer(settings, both(url), [spec])
    assert f"write {url}/public::secret" in str(caught.value.hint)
    assert places(answer(settings, [f"{url}/public"], [spec]))["secret"] == ("9.0", "public")


@pytest.mark.parametrize("spec", ["wants-new", "wants-exactly"])
def test_no_dependency_leads_to_a_lower_channel(settings: Settings, url: str, spec: str) -> None:
    with pytest.raises(SolveError, match="cannot be installed"):
        answer(settings, both(url), [spec])
    with pytest.raises(SolveError, match="clash"):
        answer(settings, both(url), [spec, "secret"])


@pytest.mark.parametrize("spec", ["other", "PUBLIC::other", "PUBLIC::tool", "free >=2,<4", "other >=1"])
def test_what_a_lower_channel_alone_has_comes_from_there_and_its_needs_do_not(
    settings: Settings, url: str, spec: str
) -> None:
    found = places(answer(settings, both(url), [spec.replace("PUBLIC", f"{url}/public")]))
    assert found.get("secret", ("1.0", "private")) == ("1.0", "private")
    assert "public" in {place for _, place in found.values()}


@pytest.mark.parametrize("spec", ["PUBLIC::secret", "PUBLIC::secret >=2", f"secret[sha256={SHA256}]"])
def test_what_is_named_is_meant(settings: Settings, url: str, spec: str) -> None:
    found = places(answer(settings, both(url), [spec.replace("PUBLIC", f"{url}/public"), "other"]))
    assert found["secret"] == ("9.0", "public")


def test_what_is_locked_moves_within_its_channel(settings: Settings, url: str) -> None:
    before = answer(settings, both(url), ["secret <1", "tool"])
    assert places(before)["secret"] == ("0.9", "private")
    after = places(answer(settings, both(url), ["secret >=1", "tool"], before))
    assert after == {"secret": ("1.0", "private"), "tool": ("1", "private")}


@pytest.mark.parametrize(
    "spec",
    ["*::secret", "conda-*::secret", "c?nda::secret >=2", "secret[channel=*]", "secret[channel='conda-*']",
     "secret[version='>=1', channel=*]", "https://h.example/*::secret"],
)  # fmt: skip
def test_a_channel_that_is_a_pattern_is_refused_by_name(settings: Settings, url: str, spec: str) -> None:
    with pytest.raises(SpecError, match="is a pattern, which any channel could fit") as caught:
        answer(settings, both(url), [spec])
    assert spec in caught.value.message


def test_a_version_may_have_what_a_channel_may_not(settings: Settings, url: str) -> None:
    assert places(answer(settings, both(url), ["secret 1.*", f"{url}/public::free 3.*"]))


def test_a_channel_cannot_bring_another_one_in(settings: Settings, tmp_path: Path) -> None:
    write_channel(tmp_path / "own", [record("app", "1", ["secret"]), record("secret", "1")])
    write_channel(tmp_path / "evil", [record("secret", "9")])
    for subdir in ("noarch", "linux-64"):
        path = tmp_path / "own" / subdir / "repodata.json"
        if path.exists():
            index = json.loads(path.read_text())
            index["info"]["channel_relations"] = {"base": "../evil"}
            path.write_text(json.dumps(index))
    with served(tmp_path) as url:
        found = places(answer(settings, [f"{url}/own"], ["app", "secret"]))
    assert found["secret"] == ("1", "own")


# --- all that is missing ---


def test_all_specs_that_nothing_fits_are_named_with_what_is_near(settings: Settings, url: str) -> None:
    with pytest.raises(SolveError) as caught:
        answer(
            settings,
            both(url),
            ["nosuchone", "secret", "alsomissing", "thirdmissing >=2", "toolx", "free >=9"],
        )
    assert caught.value.message.splitlines() == [
        f"there are no packages nosuchone, alsomissing, thirdmissing, toolx in {url}/private, {url}/public "
        "for linux-64",
        f"no free >=9 in {url}/public for linux-64",
    ]
    assert "toolx: did you mean tool?" in str(caught.value.hint)
    assert "the newest free there is 3" in str(caught.value.hint)


def test_a_clash_of_the_rest_is_told_as_well(settings: Settings, url: str) -> None:
    with pytest.raises(SolveError) as caught:
        answer(settings, both(url), ["nosuchone", "secret <1", "app"])
    first, second = caught.value.message.splitlines()[:2]
    assert first.startswith("there is no package nosuchone in ")
    assert second == "these requirements clash on linux-64: app, secret <1"


def test_a_virtual_package_is_not_looked_for_in_channels(settings: Settings, url: str) -> None:
    with pytest.raises(SolveError) as caught:
        answer(settings, both(url), ["__cuda >=12", "secret"])
    assert "there is no package" not in caught.value.message
