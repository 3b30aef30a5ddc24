"""JSON that somebody else wrote, read so that whatever it is ends as a fault of JSON.

Python's reader has two other ends: nesting that is deeper than its stack, and numbers that are longer than it
converts. What it could just read, a writer that stands deeper in the stack could not write again; so nesting
has a bound that is well below it.
"""

from __future__ import annotations

import json
from typing import Any

DEEPEST = 200  # lists and objects in each other; real documents have ten


def read_json(data: bytes | str) -> Any:
    """Return the value of a document.

    :raises json.JSONDecodeError: when it is none, or nested without end; a UnicodeDecodeError, as ever, when
        it is no text: both are a ValueError
    """
    try:
        found = json.loads(data)
    except RecursionError as error:
        raise _too_deep() from error
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError as error:  # a number of more than 4300 digits
        raise json.JSONDecodeError(str(error), "", 0) from error
    if _depth(found) > DEEPEST:
        raise _too_deep()
    return found


def _too_deep() -> json.JSONDecodeError:
    return json.JSONDecodeError(f"it is nested deeper than {DEEPEST}", "", 0)


def _depth(value: Any) -> int:
    """Return how many lists and objects are in each other, at most."""
    depth, level = 0, [value] if isinstance(value, dict | list) else []
    while level:
        depth += 1
        level = [
            part
            for each in level
            for part in (each.values() if type(each) is dict else each)
            if type(part) is dict or type(part) is list
        ]
    return depth
