"""What keeps a line of a `pip:` section from being locked, in words that name the way out."""

from __future__ import annotations

import re

from envbox.locks.spec.faults import LONGEST, VCS, has_login, meant
from envbox.mirrors import public, shown

_INDEX = re.compile(r"(--(extra-)?index-url|-i)\b")
_OPTION = re.compile(r"\s(-[A-Za-z]|--[a-z][a-z-]*)(?=[\s=]|$)")
_NAME = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?"
_EXTRAS = r"(?:\s*\[[^\]]*\])?"
_BOUND = r"(?:===|[<>=!~]=|[<>])\s*[\w.*+!-]+"
_INDEX_GOES = (
    "an index belongs into envbox.toml, which no address with a login may: "
    'extra_index_urls = ["https://…/simple"]; one that everybody who has the spec can reach, '
    "at the spec's top: pip-repositories: [https://…/simple]"
)
OWN_CODE = (
    "the project's own code is not installed, but mounted: what is in a folder of it can be imported with "
    'pythonpath = ["src"] under [environments.NAME] in envbox.toml; list here what it needs'
)
"""What to do instead of `-e .`."""


def requirement_fault(requirement: str) -> str | None:
    """Return what keeps a line of a `pip:` section from being locked."""
    where = shown(requirement)
    if re.match(r"(-e|--editable)\b", requirement) or VCS.search(requirement):
        if re.fullmatch(r"(-e|--editable)[\s=]+\.?[^:]*", requirement):
            return f"{where} would be built from source, which cannot be pinned by hash; {OWN_CODE}"
        return (
            f"{where} would be built from source, which cannot be pinned by hash; use a released version, or "
            "the URL of a wheel: NAME @ URL#sha256=HASH"
        )
    if _INDEX.match(requirement):
        return f"{where} is an option of pip; {_INDEX_GOES}"
    if requirement.startswith("-"):
        return f"{where} is an option of pip; list the requirements here, indexes in envbox.toml"
    if re.match(r"(\.|/|~|file:|[A-Za-z]:\\)", requirement) or re.search(r"@\s*(file:|\.|/)", requirement):
        own = f"; {OWN_CODE}" if requirement.startswith(".") else "; use a released version"
        return f"{where} is a path, and nobody else has it{own}"
    if re.fullmatch(r"\S+\.(whl|zip|tar\.gz|txt|toml)", requirement) and "://" not in requirement:
        files = f", or -r {requirement}" if requirement.endswith(".txt") else ""
        return f"{where} is the name of a file; list requirements like `tqdm >=4`{files}"
    return _unreadable(requirement)


def _unreadable(requirement: str) -> str | None:
    from packaging.requirements import InvalidRequirement, Requirement

    where = shown(requirement)
    if re.match(r"https?://\S+", requirement):
        return f"{where} does not say what it is; write NAME @ URL#sha256=HASH, with the URL of a wheel"
    plain = re.sub(r"\s--hash[= ]\S+", "", requirement)
    if len(plain) > LONGEST or not plain.isprintable():
        return f"{where} is not a requirement; write it like `tqdm >=4`"
    try:
        parsed = Requirement(plain)
    except InvalidRequirement:
        return f"{where} is not a requirement: {public(plain_words(plain))}"
    if parsed.url and not re.search(r"\.whl#sha256=[0-9a-f]{64}$", parsed.url):
        return f"{where} should be the URL of a wheel that ends in `#sha256=` and its hash"
    if parsed.url and has_login(parsed.url.partition("#")[0]):
        return f"{where} has a login in it, which would be shared with the file; write it into ~/.netrc"
    return None


def plain_words(text: str) -> str:
    """Return why a text is no requirement, and what to write, as a person would say it."""
    text = text.strip()
    head, semicolon, _ = text.partition(";")
    head = head.strip()
    if option := _OPTION.search(text):
        rest = text[: option.start()].strip()
        goes = _INDEX_GOES if _INDEX.match(option[1]) else f"a spec has no place for {option[1]}"
        return f"{option[1]} is an option of pip; write only {rest} here; {goes}"
    if said := re.match(r"!?\s*(?:pip3?|uv|conda|mamba)\s+(?:pip\s+)?install\s+(.*)", text):
        return f"write only {said[1] or 'its name'}"
    if re.search(r"['\"]", head):
        return "it has quotes in it; write " + re.sub(r"['\"]", "", head).strip()
    if "::" in text:
        return "`::` names a channel of conda's; list it among the dependencies, not under `pip:`"
    if single := re.match(rf"({_NAME}{_EXTRAS})\s*=\s*([\w.][^=]*)$", head):
        return f"a single `=`; pip writes `=={single[2]}`{meant(text)}"
    if re.fullmatch(rf"{_NAME}\s*=\s*[^=]+=\s*\S+", head):
        return "a version and a build are conda's; list it among the dependencies, or write NAME==VERSION"
    if "[" in head and "]" not in head:
        return "the bracket after its name is not closed"
    if head.endswith("@"):
        return "no URL follows its `@`"
    if semicolon and _reads(head):
        return 'what follows the `;` is no marker; write it like `; python_version < "3.11"`, with the quotes'
    return _of_versions(text, head)


def _of_versions(text: str, head: str) -> str:
    if bare := re.fullmatch(rf"({_NAME}{_EXTRAS})\s+(\d[\w.*+!-]*)", head):
        return f"there is no operator before the version; write {bare[1]}=={bare[2]}"
    if re.fullmatch(rf"{_NAME}{_EXTRAS}(?:[\s,]+{_NAME}{_EXTRAS})+", head):
        return "several names on one line; write one requirement a line"
    if re.fullmatch(rf"{_NAME}{_EXTRAS}\s*{_BOUND}(?:[\s,]*{_BOUND})+", head) and "," not in head:
        bounds = ",".join(re.sub(r"\s", "", bound) for bound in re.findall(_BOUND, head))
        name = re.match(_NAME + _EXTRAS, head)
        return f"there is no comma between its bounds; write {name[0] if name else ''}{bounds}"
    if guess := meant(head):
        return f"pip knows no such operator{guess}"
    if re.fullmatch(rf"{_NAME}{_EXTRAS}\s*~=\s*\d+", head):
        return "`~=` wants two numbers, as in ~=1.0"
    if bound := re.fullmatch(rf"{_NAME}{_EXTRAS}\s*(===|[<>=!~]=|[<>])\s*(.*)", head):
        what = f"{bound[2]} is no version" if bound[2] else f"no version follows `{bound[1]}`"
        return f"{what}; write it like `tqdm >=4`"
    if not re.match(r"[A-Za-z0-9]", head):
        return "a name begins with a letter or a digit; write it like `tqdm >=4`"
    return "write it like `tqdm >=4`"


def _reads(text: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(text)
    except InvalidRequirement:
        return False
    return True
