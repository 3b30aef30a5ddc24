"""The cache folder: what makes a folder one, who uses it now, what it holds, and how to free it.

Everything in it can be made or fetched again. A command comes to use one by `folder.open_cache` alone; what
frees it, `contents`, is imported by who does.
"""

from envbox.cache.memo import Memo, memo_key

__all__ = ["Memo", "memo_key"]
