"""Physical memory of another reader, which gives all that it is asked for or raises."""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple, Type

PAGE = 4096


class PageReader:
    """Reads as `Memory.from_calls` wants it: what is there, up to where something is missing.

    Args:
        read: Is given an address and a size, and returns so many bytes.
        missing: What it raises where memory has nothing.
        is_constant: Memory does not change: pages are remembered, since tables are read word by word.
    """

    _MOST_PAGES = 4096

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        missing: Tuple[Type[BaseException], ...],
        is_constant: bool,
    ) -> None:
        self._read = read
        self._missing = missing
        self._is_constant = is_constant
        self._pages: Dict[int, Any] = {}

    def _page(self, page: int) -> Any:
        found = self._pages.get(page)
        if found is None:
            try:
                found = self._read(page, PAGE)
            except self._missing:
                found = b""
            if len(self._pages) >= self._MOST_PAGES:
                self._pages.clear()
            self._pages[page] = found
        return found

    def _piece(self, address: int, size: int) -> bytes:
        """Bytes of one page."""
        if self._is_constant:
            start = address % PAGE
            found: bytes = self._page(address - start)[start : start + size]
            if found:
                return found
        # A page of which only a part is there.
        try:
            return self._read(address, size)
        except self._missing:
            return b""

    def __call__(self, address: int, size: int) -> bytes:
        if size > PAGE - address % PAGE:
            try:
                return self._read(address, size)
            except self._missing:
                pass
        pieces = []
        while size > 0:
            wanted = min(size, PAGE - address % PAGE)
            piece = self._piece(address, wanted)
            pieces.append(piece)
            if len(piece) < wanted:
                break
            address += wanted
            size -= wanted
        return b"".join(pieces)
