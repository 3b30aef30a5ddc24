"""Where logins are found, which places they are for, and that none is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.auth_servers import basic

from envbox.errors import SettingsError
from envbox.net.credentials import Login, LoginPlace, hint_for, read_logins, split_login


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment whose home is an empty folder."""
    return {"HOME": str(tmp_path)}


def header(environ: dict[str, str], url: str, *addresses: str) -> str:
    """What a server at the address would be shown: a header, or the path if that has a token."""
    login = read_logins(environ, addresses).find(url)
    if login is None:
        return ""
    address, headers = login.sign(url)
    return headers.get("Authorization", address.removeprefix("https://h.example"))


def test_nothing_is_known_where_nothing_was_left(environ: dict[str, str]) -> None:
    assert header(environ, "https://h.example/c/x.conda") == ""


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ({"BearerToken": "s3cret"}, "Bearer s3cret"),
        ({"CondaToken": "s3cret"}, "/t/s3cret/c/x.conda"),
        ({"BasicHTTP": {"username": "me", "password": "s3cret"}}, basic("me", "s3cret")),
        ({"OAuth": {"access_token": "s3cret", "token_endpoint": "x", "client_id": "y"}}, "Bearer s3cret"),
        ({"S3Credentials": {"access_key_id": "a", "secret_access_key": "b"}}, ""),
        ("nonsense", ""),
    ],
)
def test_rattler_s_store_is_read(environ: dict[str, str], tmp_path: Path, entry: object, shown: str) -> None:
    (tmp_path / ".rattler").mkdir()
    (tmp_path / ".rattler" / "credentials.json").write_text(json.dumps({"h.example": entry}))
    assert header(environ, "https://h.example/c/x.conda") == shown
    assert header(environ, "https://other.example/c/x.conda") == ""


def test_rattler_s_own_file_comes_first_and_wildcards_hold(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text(json.dumps({"*.h.example": {"BearerToken": "a"}}))
    environ["RATTLER_AUTH_FILE"] = str(tmp_path / "auth.json")
    assert header(environ, "https://repo.h.example/c") == "Bearer a"
    assert header(environ, "https://h.example/c") == "Bearer a"
    assert header(environ, "https://badh.example/c") == ""


def test_netrc_is_read_without_its_default(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(
        "machine h.example login me password s3cret\ndefault login a password b\n"
    )
    assert header(environ, "https://h.example/c") == basic("me", "s3cret")
    assert header(environ, "https://other.example/c") == ""


@pytest.mark.parametrize(
    "text",
    [
        "channel_alias: https://h.example/t/s3cret\n",
        "channels:\n  - https://h.example/t/s3cret/c\n",
        "custom_channels:\n  c: https://h.example/t/s3cret\n",
        "custom_multichannels:\n  all:\n    - https://h.example/t/${TOKEN}/c\n",
    ],
)
def test_tokens_of_a_condarc_are_for_the_channels_they_stand_in(
    environ: dict[str, str], tmp_path: Path, text: str
) -> None:
    (tmp_path / ".condarc").write_text(text)
    environ["TOKEN"] = "s3cret"
    assert header(environ, "https://h.example/c/noarch/x.conda") == "/t/s3cret/c/noarch/x.conda"
    assert header(environ, "https://h.example:8443/c/noarch/x.conda") == ""
    if "/c\n" in text:
        assert header(environ, "https://h.example/cd/noarch/x.conda") == ""


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("h.example=me:s3%20cret", basic("me", "s3 cret")),
        ("h.example=s3cret", "Bearer s3cret"),
        ("h.example:443=s3cret", "Bearer s3cret"),
        ("h.example:444=s3cret", ""),
        ("o.example=x:y h.example=/t/s3cret", "/t/s3cret/c"),
    ],
)
def test_the_variable_has_all_three_kinds(environ: dict[str, str], said: str, shown: str) -> None:
    assert header({**environ, "ENVBOX_CREDENTIALS": said}, "https://h.example/c") == shown


@pytest.mark.parametrize("said", ["s3cret", "h.example=", "=s3cret", "https://h.example=s3cret"])
def test_a_wrong_variable_is_refused_without_being_shown(environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match="HOST=USER:PASSWORD") as caught:
        read_logins({**environ, "ENVBOX_CREDENTIALS": said})
    assert "s3cret" not in caught.value.message


def test_an_address_s_own_login_comes_first_and_is_for_its_port_and_path(environ: dict[str, str]) -> None:
    environ["ENVBOX_CREDENTIALS"] = "h.example=b"
    own = "https://me:s3%40cret@h.example/private"
    assert header(environ, "https://h.example/private/noarch/x", own) == basic("me", "s3@cret")
    assert header(environ, "https://h.example/public/noarch/x", own) == "Bearer b"


@pytest.mark.parametrize(
    ("url", "bare", "kind"),
    [
        ("https://h/c", "https://h/c", None),
        ("https://u:p@h:1/c", "https://h:1/c", "basic"),
        ("https://h/t/x/c", "https://h/c", "token"),
        ("https://u:p@h/t/x/c", "https://h/c", "token"),
        ("https://@h/c", "https://h/c", None),
    ],
)
def test_an_address_and_its_login_are_parted(url: str, bare: str, kind: str | None) -> None:
    found, login = split_login(url)
    assert found == bare
    assert (login.kind if login else None) == kind


def test_what_cannot_be_read_is_told_when_a_server_refuses_and_without_its_words(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine h.example\nlogin me passwrd s3cret\n")
    (tmp_path / ".condarc").write_text("channels: [s3cret\n")
    (tmp_path / ".rattler").mkdir()
    (tmp_path / ".rattler" / "credentials.json").write_text('{"s3cret')
    hint = hint_for("https://h.example/c", read_logins(environ))
    for name in (".netrc", ".condarc", "credentials.json"):
        assert f"{name} could not be read" in hint
    assert "s3cret" not in hint


def test_a_login_does_not_show_itself() -> None:
    for kind in ("basic", "bearer", "token"):
        login = Login(kind, "s3cret", "somebody")  # type: ignore[arg-type]
        shown = repr(LoginPlace("h", login)) + str(login)
        assert "s3cret" not in shown
        assert "somebody" not in shown


def test_a_token_is_not_put_in_twice() -> None:
    assert Login("token", "x").sign("https://h/t/y/c")[0] == "https://h/t/y/c"
    assert Login("token", "a/b").sign("https://h/c")[0] == "https://h/t/a%2Fb/c"
