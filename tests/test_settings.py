"""The one rule of settings: command line, environment variables, project, user; then the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from envbox.errors import SettingsError
from envbox.settings import DEFAULT_BASE, Settings, merge, read_layers, read_settings

Places = tuple[Path, dict[str, str]]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A project directory, and an environment whose user configuration file is `user.toml` beside it."""
    project = tmp_path / "project"
    project.mkdir()
    return project, {
        "ENVBOX_CONFIG": str(tmp_path / "user.toml"),
        "ENVBOX_CACHE_DIR": str(tmp_path / "cache"),
    }


def test_without_anything_said_the_defaults_hold(places: Places) -> None:
    project, environ = places
    settings = read_settings(project, environ)
    assert settings.base == DEFAULT_BASE
    assert settings.channels == ("conda-forge",)
    assert settings.jobs >= 1


def test_each_place_outranks_the_next(places: Places) -> None:
    project, environ = places
    Path(environ["ENVBOX_CONFIG"]).write_text('base = "user"\n')
    assert read_settings(project, environ).base == "user"
    (project / "envbox.toml").write_text('base = "project"\n')
    assert read_settings(project, environ).base == "project"
    environ["ENVBOX_BASE"] = "environ"
    assert read_settings(project, environ).base == "environ"
    assert read_settings(project, environ, {"base": "option"}).base == "option"
    assert read_settings(project, environ, {"base": None}).base == "environ"


def test_mirrors_are_merged_key_by_key(places: Places) -> None:
    project, environ = places
    Path(environ["ENVBOX_CONFIG"]).write_text(
        '[mirrors]\n"docker.io" = "a"\n"https://c.org/x" = "http://b"\n'
    )
    environ["ENVBOX_MIRRORS"] = "docker.io=127.0.0.1:5000 quay.io=127.0.0.1:5001"
    rules = read_settings(project, environ).mirrors.rules
    assert rules == {
        "docker.io": "127.0.0.1:5000",
        "quay.io": "127.0.0.1:5001",
        "https://c.org/x": "http://b",
    }


def test_pyproject_is_read_where_there_is_no_envbox_toml(places: Places) -> None:
    project, environ = places
    (project / "pyproject.toml").write_text(
        '[project]\nname = "x"\n[tool.envbox]\nbase = "b"\n'
        '[tool.envbox.environments.maps]\nports = ["5432"]\n'
    )
    settings = read_settings(project, environ)
    assert settings.base == "b"
    assert settings.for_environment("maps").ports == ("5432",)
    assert settings.for_environment("maps").base == "b"


def test_every_fault_is_named_at_once(places: Places) -> None:
    project, environ = places
    (project / "envbox.toml").write_text('bsae = "x"\njobs = 0\n[environments.maps]\nmemroy = "2g"\n')
    environ["ENVBOX_MIRRORS"] = "nonsense"
    with pytest.raises(SettingsError) as caught:
        read_settings(project, environ)
    for words in ("bsae in", "jobs in", "environments.maps.memroy in", "ENVBOX_MIRRORS", "envbox.toml"):
        assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("", {"ENVBOX_MIRRORS": "u:s3cr3t@host"}),
        ('[mirrors]\n"docker.io" = ["http://u:s3cr3t@host"]\n', {}),
        ('[environments.e]\ntypo = 1\nenv = { PGPASSWORD = ["s3cr3t"] }\n', {}),
        ("[environments.e]\nenv = 's3cr3t'\n", {}),
    ],
)
def test_no_secret_stands_in_an_error(places: Places, text: str, environ: dict[str, str]) -> None:
    project, variables = places
    (project / "envbox.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_settings(project, variables | environ)
    assert "s3cr3t" not in caught.value.message
    assert "MIRRORS" in caught.value.message or "envbox.toml" in caught.value.message


@pytest.mark.parametrize(
    "text", ['tool = "tool.envbox"\n', "[tool]\nenvbox = 3\n", "[project]\nname = 'x'\n"]
)
def test_a_pyproject_that_says_nothing_of_envbox_is_none_of_ours(places: Places, text: str) -> None:
    project, environ = places
    (project / "pyproject.toml").write_text(text)
    assert read_settings(project, environ).base == DEFAULT_BASE


def test_an_unknown_home_is_said(places: Places) -> None:
    project, environ = places
    with pytest.raises(SettingsError, match="ENVBOX_CACHE_DIR begins with the home"):
        read_settings(project, environ | {"ENVBOX_CACHE_DIR": "~nobody-of-that-name/x"})


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("true", ("docs", "headers", "static", "tests")),
        ("false", ()),
        ('["tests", "docs", "tests"]', ("docs", "tests")),
    ],
)
def test_what_is_left_out_is_all_nothing_or_named(places: Places, said: str, meant: tuple[str, ...]) -> None:
    project, environ = places
    (project / "envbox.toml").write_text(f"[environments.maps]\nslim = {said}\n")
    assert read_settings(project, environ).for_environment("maps").slim == meant
    (project / "envbox.toml").write_text("[environments.maps]\nslim = ['fat']\n")
    with pytest.raises(SettingsError, match=r"maps\.slim in .* has fat, but should be true, or of docs"):
        read_settings(project, environ)


def test_a_file_that_is_not_toml_is_named(places: Places) -> None:
    project, environ = places
    (project / "envbox.toml").write_bytes(b"\xff\xfeb\x00")
    with pytest.raises(SettingsError, match=r"envbox\.toml"):
        read_settings(project, environ)


def test_a_relative_cache_folder_belongs_to_the_file_that_names_it(places: Places) -> None:
    project, environ = places
    del environ["ENVBOX_CACHE_DIR"]
    user = Path(environ["ENVBOX_CONFIG"])
    user.write_text('cache_dir = "kept"\n')
    assert read_settings(project, environ).cache_dir == user.parent / "kept"


@pytest.mark.parametrize("value", [".cache", "~", "/", ""])
@pytest.mark.parametrize("file", ["envbox.toml", "pyproject.toml"])
def test_a_project_says_nothing_of_the_cache(places: Places, file: str, value: str) -> None:
    project, environ = places
    table = "[tool.envbox]\n" if file == "pyproject.toml" else ""
    (project / file).write_text(f'{table}cache_dir = "{value}"\n')
    with pytest.raises(SettingsError, match=rf"cache_dir in .*{file} cannot be said by a project: set ENV"):
        read_settings(project, environ)


def test_a_variable_may_be_empty(places: Places) -> None:
    project, environ = places
    (project / "envbox.toml").write_text('[environments.maps]\nenv = { X = "", Y = 1 }\n')
    assert read_settings(project, environ).for_environment("maps").env == {"X": "", "Y": "1"}


def test_what_a_project_says_is_told_from_what_its_user_says(places: Places) -> None:
    project, environ = places
    Path(environ["ENVBOX_CONFIG"]).write_text('base = "mine"\n[mirrors]\na = "$WHO/a"\n')
    (project / "envbox.toml").write_text('base = "theirs"\n[mirrors]\nb = "$WHO/b"\n')
    layers = read_layers(project, environ | {"ENVBOX_JOBS": "3"})
    assert layers.project == {"base": "theirs", "mirrors": {"b": "$WHO/b"}}
    assert layers.own == {"base": "mine", "mirrors": {"a": "$WHO/a"}, "jobs": 3,
                          "cache_dir": Path(environ["ENVBOX_CACHE_DIR"])}  # fmt: skip
    written = merge(layers, {"WHO": "me"}, fills_project=False)
    assert written.mirrors.rules == {"a": "me/a", "b": "$WHO/b"}
    assert merge(layers, {"WHO": "me"}).mirrors.rules == {"a": "me/a", "b": "me/b"}


def test_settings_are_a_value() -> None:
    with pytest.raises(AttributeError):
        Settings(Path("x")).base = "other"  # type: ignore[misc]


def test_what_is_set_for_channels_and_solves_is_parsed(places: Places) -> None:
    project, environ = places
    (project / "envbox.toml").write_text(
        'exclude_newer = 2024-03-01\nca_bundle = "certs/ca.pem"\ntimeout = 5\noffline = true\n'
        'extra_index_urls = ["https://pypi.example/simple"]\n[environments.maps]\ncuda = 12.4\n'
    )
    settings = read_settings(project, environ)
    assert settings.exclude_newer == "2024-03-01"
    assert settings.ca_bundle == project / "certs/ca.pem"
    assert (settings.timeout, settings.offline) == (5.0, True)
    assert settings.extra_index_urls == ("https://pypi.example/simple",)
    assert settings.for_environment("maps").cuda == "12.4"
    assert not read_settings(project, {**environ, "ENVBOX_OFFLINE": "no"}).offline
    assert read_settings(project, {**environ, "ENVBOX_TIMEOUT": "2.5"}).timeout == 2.5


@pytest.mark.parametrize(
    "line",
    [
        'extra_index_urls = ["https://me:s3cret@pypi.example/simple"]',
        'extra_index_urls = ["https://s3cret@pypi.example/simple"]',
        'extra_index_urls = ["https://pypi.example/t/s3cret/simple"]',
        'extra_index_urls = ["https://pypi.example/simple?token=s3cret"]',
    ],
)
def test_an_index_with_credentials_in_it_is_refused_and_they_are_not_shown(places: Places, line: str) -> None:
    project, environ = places
    (project / "envbox.toml").write_text(line + "\n")
    with pytest.raises(SettingsError, match=r"credentials in it, for pypi\.example") as caught:
        read_settings(project, environ)
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    "line",
    [
        "timeout = 0",
        "timeout = true",
        'timeout = "nan"',
        'offline = "perhaps"',
        "offline = 3",
        'extra_index_urls = "pypi"',
    ],
)
def test_a_wrong_value_for_the_network_is_named(places: Places, line: str) -> None:
    project, environ = places
    (project / "envbox.toml").write_text(line + "\n")
    with pytest.raises(SettingsError, match=line.partition(" ")[0]):
        read_settings(project, environ)


def test_variables_in_addresses_are_filled_in(places: Places) -> None:
    project, environ = places
    (project / "envbox.toml").write_text(
        'extra_index_urls = ["https://$WHO:${TOKEN}@pypi.example/simple"]\n'
        '[mirrors]\n"https://c.example" = "https://$WHO:${TOKEN}@mirror.example/c"\n'
    )
    settings = read_settings(project, {**environ, "WHO": "me", "TOKEN": "s3cret"})
    assert settings.mirrors.rules == {"https://c.example": "https://me:s3cret@mirror.example/c"}
    assert settings.extra_index_urls == ("https://me:s3cret@pypi.example/simple",)
    with pytest.raises(SettingsError) as caught:
        read_settings(project, {**environ, "TOKEN": "s3cret"})
    assert "mirrors.'https://c.example' names $WHO, which is not set" in caught.value.message
    assert "extra_index_urls names $WHO, which is not set" in caught.value.message
    assert "s3cret" not in caught.value.message


def test_a_login_may_stand_in_a_variable_which_nobody_shares(places: Places) -> None:
    project, environ = places
    url = "https://me:s3cret@pypi.example/simple"
    assert read_settings(project, {**environ, "ENVBOX_EXTRA_INDEX_URLS": url}).extra_index_urls == (url,)
    with pytest.raises(SettingsError, match="should be addresses"):
        read_settings(project, {**environ, "ENVBOX_EXTRA_INDEX_URLS": "pypi.example"})


def test_half_a_login_in_a_file_is_refused_too(places: Places) -> None:
    project, environ = places
    (project / "envbox.toml").write_text('extra_index_urls = ["https://me:s3cret$X@pypi.example/simple"]\n')
    with pytest.raises(SettingsError, match="has credentials in it") as caught:
        read_settings(project, {**environ, "X": "y"})
    assert "s3cret" not in caught.value.message
