"""Finds where the statement of an INSERT ends and its data begins.

The engine takes the two apart (the data in chunks, in any format, binary included), whereas over HTTP they may come
glued together: `INSERT INTO t FORMAT RowBinary` in the URL and rows in the body, or all of it in the body.
Only the head of an INSERT is read here; every other statement goes to the engine as it came.
"""

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    rb"""
      (?P<space>\s+ | --[^\n]* | \#[ !][^\n]* | /\*.*?\*/)
    | (?P<quoted>'(?:[^'\\]|\\.)*' | `(?:[^`\\]|\\.)*` | "(?:[^"\\]|\\.)*")
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_AFTER_FORMAT = re.compile(rb"[ \t\f]*;?[ \t\f]*\r?\n?")
# These make it a statement that brings its own data.
_OWN_DATA = {b"SELECT", b"WITH", b"FROM", b"WATCH", b"EXPLAIN"}


@dataclass(frozen=True)
class Insert:
    """An INSERT without its data: the statement up to FORMAT, the format if it names one, and what followed."""

    statement: str
    format: str | None
    data: bytes


def split_insert(text: bytes) -> Insert | None:
    """Splits `text` if it is an INSERT that takes data from outside, otherwise answers None.

    Raises UnicodeDecodeError if the statement itself (not its data) is no UTF-8.
    """
    depth = 0
    words: list[bytes] = []
    expects_format = False
    format_start = 0
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "space":
            continue
        word = token["word"]
        if expects_format:
            if word is None:
                return None
            start = _AFTER_FORMAT.match(text, token.end()).end()
            return Insert(text[:format_start].decode(), word.decode(), text[start:])
        if word is None:
            depth += {b"(": 1, b")": -1}.get(token[0], 0)
            if not words:
                return None
            continue
        if depth:
            continue
        keyword = word.upper()
        words.append(keyword)
        if words[0] != b"INSERT" or keyword in _OWN_DATA:
            return None
        if keyword == b"VALUES":
            return Insert(text[: token.start()].decode(), "Values", text[token.end() :])
        if keyword == b"FORMAT":
            expects_format, format_start = True, token.start()
    if words[:1] != [b"INSERT"]:
        return None
    return Insert(text.decode().rstrip().rstrip(";"), None, b"")


_LAST_FORMAT = re.compile(r"\bFORMAT\s+([A-Za-z_][A-Za-z0-9_]*)\s*(?:SETTINGS\b[^()]*)?;?\s*$", re.IGNORECASE)


def named_format(statement: str) -> str | None:
    """The format that a query names in its last clause, if it does: the engine follows it over any default."""
    found = _LAST_FORMAT.search(statement)
    return found[1] if found else None
