"""A context of libkdumpfile as memory.

Takes what Debian's python3-libkdumpfile has (`kdumpfile.kdumpfile`) and what pykdumpfile has
(`kdumpfile.Context`).
"""

from __future__ import annotations

import importlib
from typing import Any, Iterable, Iterator, List, Optional

from ._pages import PAGE, PageReader
from .errors import UnsupportedError
from .memory import Memory
from .values import Range, RangeLike

__all__ = ["memory"]


def memory(context: Any, ranges: Optional[Iterable[RangeLike]] = None) -> Memory:
    """The physical memory of an open context. Nothing is written.

    Machine addresses are read: they are what tables hold, under Xen too, and need no translation, for which a
    context would have to know its operating system.

    Args:
        context: An open context; it is kept, and stays the caller's to use.
        ranges: Where there is memory, in pairs of address and size. Without it the context's own map of
            pages says so.

    Raises:
        UnsupportedError: The context has no map of pages.
    """
    bindings: Any = importlib.import_module("kdumpfile")
    prefix = "KDUMP_" if hasattr(bindings, "KDUMP_MACHPHYSADDR") else ""
    space: int = getattr(bindings, prefix + "MACHPHYSADDR")
    exceptions: Any = importlib.import_module("kdumpfile.exceptions")
    missing = getattr(exceptions, "NoDataException", None) or exceptions.NoDataError
    reader = PageReader(
        lambda address, size: bytes(context.read(space, address, size)), (missing,), True
    )
    given = _ranges(context, missing) if ranges is None else list(ranges)
    return Memory.from_calls(read=reader, ranges=given, is_dump=True)


def _ranges(context: Any, missing: Any) -> List[Range]:
    for name in ("memory.pagemap", "file.pagemap"):
        try:
            pages = context.attr[name]
        except Exception:  # The bindings have no exception in common for this.
            continue
        return list(_runs(pages, context.attr["max_pfn"], missing))
    raise UnsupportedError(
        "the context has no map of pages: give ranges=, as in [(0x100000, 0x7ff00000)]"
    )


def _runs(pages: Any, end: int, missing: Any) -> Iterator[Range]:
    """Runs of bits that are set, as addresses."""
    first = 0
    while first < end:
        try:
            first = pages.find_set(first)
        except missing:
            return
        if first >= end:
            return
        try:
            last = min(pages.find_clear(first), end)
        except missing:
            last = end
        yield Range(first * PAGE, (last - first) * PAGE)
        first = last
