"""The cache folder: what makes a folder one, who uses it now, what it holds, and how to free it.

Everything in it can be made or fetched again. A command comes to use one by `folder.open_cache` alone.
"""

from envbox.cache.contents import Holding, free, holdings
from envbox.cache.memo import Memo, memo_key
from envbox.cache.shapes import KINDS

__all__ = ["KINDS", "Holding", "Memo", "free", "holdings", "memo_key"]
