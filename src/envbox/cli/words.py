"""What may reach a terminal: words in which nothing that somebody else wrote moves, hides or turns anything.

A licence, a notebook's name, a registry's answer: all of it ends in words, printed in many places, by click
and by Python's own tracebacks too. So the one filter sits where all of them end: `prepare` puts streams in
the place of stdout and stderr. What is coloured by us goes to `painted` instead, its foreign parts filtered
before; what is for programs to read goes through `write_data`, and is filtered only on a terminal.

The streams also know what to do when nobody listens: words that cannot be written are lost, and data that
cannot be written is an error.
"""

from __future__ import annotations

import codecs
import io
import locale
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TextIO, cast

import click

from envbox.errors import ToolError

HIDDEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f"  # C0 but for tab and line feed, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # which turn a line around: https://trojansource.codes
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # which nobody sees
    "\u2028\u2029\ud800-\udfff]"  # line and paragraph separators; half characters
)
_FORGED = re.compile(r"\n(?=(?:error|hint|warning):)")
_PLAIN = {
    "→": "->",
    "←": "<-",
    "…": "...",
    "·": "*",
    "–": "-",
    "—": "-",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
}
_ERRORS = "envbox.plain"
_LONGEST_LINE = 1 << 16


class ReaderGoneError(BrokenPipeError):
    """Nobody reads what is printed any more."""


class Foreign:
    """The filter. What it shall conceal is learned as settings are read."""

    def __init__(self) -> None:
        self._secret: re.Pattern[str] | None = None
        self._parts: set[str] = set()

    def conceal(self, parts: Iterable[str]) -> None:
        """Conceal these parts of an address's path from now on."""
        self._parts |= set(parts)
        if self._parts:
            listed = "|".join(map(re.escape, sorted(self._parts, key=len, reverse=True)))
            self._secret = re.compile(rf"(?<=/)(?:{listed})(?=[/?#\s\"'<>(),;:]|$)")

    def __call__(self, text: str) -> str:
        """Return the text as it may be printed."""
        if "://" in text:  # else there is no address, and so no login
            from envbox.mirrors import without_logins

            text = without_logins(text)
        if self._secret is not None:
            text = self._secret.sub("…", text)
        return HIDDEN.sub(_escape, text.replace("\r\n", "\n"))

    def line(self, text: str) -> str:
        """Return the text as one line of a table."""
        return self(text).replace("\n", "\\n").replace("\t", "\\t")

    def message(self, text: str) -> str:
        """Return the text as one message, in which no line looks like another message of ours."""
        return _FORGED.sub("\n  ", self(text))


foreign = Foreign()


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that no locale could read (PEP 383)
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class WordStream(io.TextIOBase):
    """A stream of words.

    :param beneath: where they go
    :param vital: whether it is an error when they cannot be written
    """

    def __init__(self, beneath: TextIO, *, vital: bool, is_filtered: bool = True) -> None:
        self._beneath = beneath
        self._vital = vital
        self._is_filtered = is_filtered
        self.painted: WordStream = (
            WordStream(beneath, vital=vital, is_filtered=False) if is_filtered else self
        )

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the terminal, or what reads in its place."""
        return self._beneath.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """What becomes of characters that the encoding has not."""
        return self._beneath.errors

    def writable(self) -> bool:
        """Return whether it takes words: always."""
        return True

    def fileno(self) -> int:
        """Return the number of the file beneath."""
        return self._beneath.fileno()

    def isatty(self) -> bool:
        """Return whether a person reads."""
        return self._beneath.isatty()

    def write(self, text: str | bytes) -> int:
        """Write words; bytes, which click has for completions, as `write_data` does."""
        if not isinstance(text, str):
            if not text:  # so click asks whether this is a file of bytes
                raise TypeError("words are text")
            self.write_data(text)
            return len(text)
        try:
            if text:  # a full device refuses even nothing, which click tries first
                self._beneath.write(foreign(text) if self._is_filtered else text)
        except OSError as error:
            self._fail(error)
        return len(text)

    def write_data(self, data: bytes) -> None:
        """Write what is for programs: as it is, but to a terminal."""
        if self.isatty():
            self.write(data.decode(errors="surrogateescape"))
            return
        try:
            self._beneath.flush()
            self._beneath.buffer.write(data)
        except OSError as error:
            self._fail(error)

    def flush(self) -> None:
        """Have written what was."""
        try:
            self._beneath.flush()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        """Write into nothing from now on, so that whatever is still to come does not fail as well."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())
        os.close(nothing)
        if isinstance(error, BrokenPipeError) and self._vital:
            raise ReaderGoneError from error
        if self._vital:
            words = (error.strerror or str(error)).lower()
            raise ToolError(f"what there is to print cannot be written on stdout: {words}") from error


def prepare() -> None:
    """Put streams of words in the place of stdout and stderr; those that are closed are opened first.

    A number that is free would be given to the next file that is opened, and what a child prints would go
    into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # what is printed on a closed stdout is lost, and that is noticed
            os.set_inheritable(os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY), True)
    codecs.register_error(_ERRORS, _plain)
    if sys.stdin is None:
        sys.stdin = open(0, encoding=locale.getencoding(), closefd=False)  # noqa: SIM115
    sys.stdout = cast(TextIO, WordStream(_opened(sys.stdout, 1), vital=True))
    sys.stderr = cast(TextIO, WordStream(_opened(sys.stderr, 2), vital=False))


def _opened(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:
        return open(number, "w", encoding=locale.getencoding(), errors=_ERRORS, closefd=False)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_ERRORS)
        if sys.flags.utf8_mode and not os.environ.get("PYTHONIOENCODING"):  # what the terminal reads, stays
            encoding = locale.getencoding()
            encoding = "utf-8" if codecs.lookup(encoding).name == "ascii" else encoding
            stream.reconfigure(encoding=encoding, errors=_ERRORS)
    return stream


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Write what the terminal's encoding has not in plain characters that mean the same, else escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    said = "".join(_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lost)
    return said, error.end


def painted(stream: TextIO) -> TextIO:
    """Return the stream for text with our own colours, the foreign parts of which were filtered."""
    return cast(TextIO, stream.painted) if isinstance(stream, WordStream) else stream


def echo_line(text: object = "", *, err: bool = False) -> None:
    """Print one line of a table or a list."""
    click.echo(foreign.line(str(text)), err=err)


def write_data(data: bytes | str) -> None:
    """Print what is for programs to read, such as a lockfile or a path."""
    data = os.fsencode(data) if isinstance(data, str) else data
    if isinstance(sys.stdout, WordStream):
        sys.stdout.write_data(data)
    else:
        click.echo(data, nl=False)


def whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what comes in pieces of any size, cut between lines, so that a terminal is shown no half
    character.
    """
    kept = b""
    for chunk in chunks:
        lines, newline, kept = (kept + chunk).rpartition(b"\n")
        if lines or newline:
            yield lines + newline
        if len(kept) > _LONGEST_LINE:
            yield kept
            kept = b""
    if kept:
        yield kept


def escaped_json(text: str) -> str:
    """Return a JSON document in which what nobody sees is escaped, as is all that stdout's encoding has
    not.
    """
    import json

    hidden = HIDDEN.sub(lambda found: json.dumps(found[0])[1:-1], text)
    if (sys.stdout.encoding or "").lower().replace("-", "") == "utf8":
        return hidden
    return re.sub(r"[^\0-\x7f]", lambda found: json.dumps(found[0])[1:-1], hidden)


def in_utf8() -> None:
    """Begin again with Python's UTF-8 mode, where this locale's encoding is another.

    Names of files are bytes, in archives most often of UTF-8: what latin-1 cannot say must not fail.
    """
    if sys.getfilesystemencoding() == "utf-8" or not sys.orig_argv:
        return
    with suppress(OSError):
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


__all__ = [
    "ReaderGoneError", "echo_line", "escaped_json", "foreign", "in_utf8", "painted", "prepare", "whole_lines",
    "write_data",
]  # fmt: skip
