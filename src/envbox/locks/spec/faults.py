"""What is wrong with one match spec, channel or index, in words and without secrets."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from envbox.mirrors import public, shown, without_credentials

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
LONGEST = 500  # characters of one line that a person wrote
VCS = re.compile(r"(^|@\s*|\s)(git|hg|svn|bzr)\+|^git@")


def match_spec_fault(spec: str) -> str | None:
    """Return what keeps a text from being a match spec, as the solver and conda-lock read it."""
    from conda_lock.src_parser.conda_common import conda_spec_to_versioned_dep
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    where = f"{shown(spec)} is not a match spec"
    if spec.startswith("-") or "{{" in spec:
        return f"{where}; `dependencies` takes package names and versions only"
    if len(spec) > LONGEST or not spec.isprintable():
        return f"{where}; write it like `numpy >=2`"
    if VCS.match(spec) or re.match(r"\w+://.*\.(whl|zip|tar\.gz)([#?].*)?$", spec):
        return f"{where}, but a requirement of pip's; under `- pip:` go its name and version"
    if re.match(r"(\.|/|~|[A-Za-z]:\\)", spec) and "::" not in spec:
        return f"{where}, but a path, and nobody else has it; make a channel of it, or name a published one"
    try:
        parsed = MatchSpec(spec)
        conda_spec_to_versioned_dep(spec, "main")
    except (InvalidMatchSpecError, RuntimeError) as error:
        said = str(error if not error.__cause__ else error.__cause__).partition("\n")[0]
        said = public(said.removeprefix(f"Invalid spec {spec!r}: "))
        return f"{where}: {said[:200]}{meant(spec)}"
    if not _NAME.fullmatch(parsed.name.normalized if parsed.name else "") or " " in (parsed.build or ""):
        return f"{where}; write it like `numpy >=2`"
    return None


def meant(spec: str) -> str:
    """Return what a person may have meant by a version that no tool reads."""
    twice = re.fullmatch(r"([\w.-]+)\s*(>==|=>|=<|<==|===>?)\s*([\w.*]+)", spec)
    if not twice:
        return ""
    sign = ">=" if ">" in twice[2] else "<=" if "<" in twice[2] else "=="
    return f"; write {twice[1]}{sign}{twice[3]}"


def has_login(url: str) -> bool:
    """Return whether there is a secret in an address: not where it names an environment variable instead."""
    try:
        parts = urlsplit(re.sub(r"\$\{?\w+\}?", "", url))
        return parts.netloc.rpartition("@")[0].strip(":") != "" or without_credentials(url) != url
    except ValueError:  # its host is none
        return "@" in url


def channel_fault(channel: object) -> str | None:
    """Return what keeps a value from being a channel."""
    if not isinstance(channel, str) or not channel.strip():
        return f"`channels` should be a list of names and URLs, and has {shown(channel)}"
    if re.search(r"\s", channel) or not channel.isprintable():
        return f"the channel {shown(channel)} has a blank in it; write one channel a line"
    if re.match(r"(\.|/|~|[A-Za-z]:[\\/])", channel):
        return f"the channel {shown(channel)} is a path; write it as file:///… with the whole path"
    return None


def index_fault(index: object) -> str | None:
    """Return what keeps a value of `pip-repositories` from being an index."""
    if not isinstance(index, str) or not re.match(r"https?://\S+$|file://\S+$|\$", index):
        return f"`pip-repositories` should be a list of addresses, and has {shown(index)}"
    if has_login(index) and not re.search(r"//[^/@]*\$[^/@]*@", index):
        return (
            f"the index {shown(index)} has a login in it, which would be shared with the file; "
            "write it into ~/.netrc"
        )
    return None
