"""HTML that somebody else's notebook put out, as a page may show it where nothing may happen.

Two walls: what is no plain text, table, picture or link is taken out by nh3 (https://nh3.readthedocs.io), and
the page forbids the browser to run, fetch or send anything at all.
"""

from __future__ import annotations

import re

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""https://www.w3.org/TR/CSP3/: no script, no frame, no request."""
_MORE_TAGS = {"tfoot", "section", "main", "font"}
_EVERYWHERE = {"style", "class", "id", "title", "lang", "dir"}
_ATTRIBUTES = {"font": {"color"}, "td": {"halign"}, "table": {"border"}}
_STYLES = {
    "background-color", "border", "border-bottom", "border-collapse", "border-color", "border-left",
    "border-right", "border-style", "border-top", "border-width", "color", "display", "font-family",
    "font-size", "font-style", "font-weight", "height", "line-height", "margin", "margin-bottom",
    "margin-left", "margin-right", "margin-top", "max-height", "max-width", "min-width", "overflow",
    "padding", "padding-bottom", "padding-left", "padding-right", "padding-top", "text-align",
    "text-decoration", "vertical-align", "white-space", "width",
}  # fmt: skip
_PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|webp|svg\+xml)[;,]", re.IGNORECASE)
_LINKS = {"http", "https", "mailto"}


def inert(html: str) -> str:
    """Return the HTML without whatever could act: scripts, styles of its own, frames, forms, links that
    are code.
    """
    import nh3

    attributes = {tag: set(names) for tag, names in nh3.ALLOWED_ATTRIBUTES.items()}
    for tag, names in ({"*": _EVERYWHERE} | _ATTRIBUTES).items():
        attributes[tag] = attributes.get(tag, set()) | names
    return nh3.clean(
        html,
        tags=nh3.ALLOWED_TAGS | _MORE_TAGS,
        attributes=attributes,
        attribute_filter=_checked,
        url_schemes=_LINKS | {"data"},
        filter_style_properties=_STYLES,
    )


def _checked(tag: str, name: str, value: str) -> str | None:
    """Return an attribute's value, if it may be; data is for pictures alone, which no scripts of theirs
    run in.
    """
    is_data = value.lstrip().lower().startswith("data:")
    if tag == "img" and name == "src":
        return value if _PICTURE.match(value) else None
    return None if is_data else value
