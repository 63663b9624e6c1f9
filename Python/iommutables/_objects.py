"""Handles, calls, and what callbacks raise."""

from __future__ import annotations

import ctypes
import operator
import sys
import threading
import weakref
from types import TracebackType
from typing import Any, Callable, Optional, Tuple, Type, TypeVar

from ._abi import NO_PASID, lib
from .errors import ArgumentError, HandleError, Status, error_of

Self = TypeVar("Self", bound="Closable")


class _Pending(threading.local):
    """What a callback of this thread has raised and nobody has been told of yet."""

    error: Optional[BaseException] = None


_pending = _Pending()


_callbacks: "weakref.WeakSet[Callable[..., Any]]" = weakref.WeakSet()
_previous_hook = sys.unraisablehook


def _keep_unraisable(event: Any) -> None:
    """A signal may come after the interpreter has entered a callback and before the first line of it: ctypes gives
    what its handler raises to this hook, and whatever lies about to the library, whose answer then counts for nothing.
    """
    if event.object in _callbacks:
        _pending.error = _pending.error or event.exc_value
    else:
        _previous_hook(event)


def _listen() -> None:
    """Hears what ctypes cannot raise, also where somebody else has set the hook meanwhile."""
    global _previous_hook
    if sys.unraisablehook is not _keep_unraisable:
        _previous_hook = sys.unraisablehook
        sys.unraisablehook = _keep_unraisable


def guarded(answer: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """A callback for the library: what it raises is kept for the caller, and `answer` goes to the library.

    After the first exception callbacks are not called any more until the caller has it.
    """
    _listen()

    def call(*arguments: Any) -> Any:
        try:
            if _pending.error is not None:
                return answer
            return function(*arguments)
        except BaseException as error:  # noqa: B902 - KeyboardInterrupt too is the caller's.
            _pending.error = error
            return answer

    _callbacks.add(call)
    return call


def raise_pending() -> None:
    """Raises what a callback of this thread has raised."""
    error = _pending.error
    if error is not None:
        _pending.error = None
        raise error


def check(status: int) -> None:
    """Raises what a call of the library has ended with."""
    raise_pending()
    if status != Status.OK:
        raise error_of(status, lib.iommu_last_error().decode("utf-8", "replace"))


def _free(function: Callable[[int], int], handle: int) -> None:
    function(handle)


class Owned:
    """A handle, given back with the last reference to it: a running call keeps one of its own."""

    __slots__ = ("_as_parameter_", "__weakref__")

    def __init__(self, handle: int, free: Callable[[int], int]) -> None:
        self._as_parameter_ = ctypes.c_void_p(handle)
        # Not at the interpreter's exit: what callbacks would need is no longer there.
        weakref.finalize(self, _free, free, handle).atexit = False

    def __reduce__(self) -> Tuple[Any, ...]:
        raise TypeError("what stands behind a handle cannot be copied or pickled")


class Closable:
    """An object of the library: closed by `close()`, at the end of a `with`, or when nothing refers to it.

    A call that another thread is in the middle of goes on to its end.
    """

    _owned: Optional[Owned] = None
    #: What it is called in messages.
    _noun = "the object"

    def _take(self, place: ctypes.c_void_p, free: Callable[[int], int]) -> None:
        assert place.value is not None
        self._owned = Owned(place.value, free)

    def _ref(self) -> Owned:
        owned = self._owned
        if owned is None:
            raise HandleError(f"{self._noun} is closed: make it anew, or close it later")
        return owned

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._owned is None

    def close(self) -> None:
        """Gives it back; what was made over it goes on working. Closing twice is no error."""
        self._owned = None

    def __enter__(self: Self) -> Self:
        self._ref()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{' (closed)' if self.closed else ''}>"


def reference(value: object, kind: Type[Closable], name: str) -> Owned:
    """The handle of an argument.

    Raises:
        TypeError: It is of another class.
        HandleError: It is closed.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} is of type {type(value).__name__}: give a {kind.__name__}")
    return value._ref()


class Turn:
    """Something that serves one thread at a time, and no call from within a call."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._lock = threading.Lock()
        self._owner = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        if self._owner == me:
            raise HandleError(
                f"{self._noun}: in use by the very call that this callback belongs to; wait until it returns"
            )
        self._lock.acquire()
        self._owner = me

    def __exit__(self, *_: object) -> None:
        self._owner = 0
        self._lock.release()


def unsigned(value: object, name: str, bits: int = 64) -> int:
    """A number that fits in `bits` bits.

    Raises:
        TypeError: It is no whole number.
        ArgumentError: It does not fit.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"{name} is of type {type(value).__name__}: give a whole number"
        ) from None
    if not 0 <= number < 1 << bits:
        raise ArgumentError(f"{name} is {number:#x}: 0 to {(1 << bits) - 1:#x} are possible")
    return number


def pasid_number(pasid: Optional[int]) -> int:
    """A PASID as the library has it."""
    return NO_PASID if pasid is None else unsigned(pasid, "pasid", 20)


def text(value: Optional[bytes]) -> str:
    """A text of the library."""
    return "" if value is None else value.decode("utf-8", "replace")


def c_text(value: str, name: str) -> bytes:
    """A text for the library.

    Raises:
        ArgumentError: It has a NUL, at which C would end it.
    """
    try:
        found = value.encode("utf-8")
    except UnicodeEncodeError:
        raise ArgumentError(f"{name} {value!r} is no UTF-8, which the library reads") from None
    if b"\0" in found:
        raise ArgumentError(f"{name} {value!r} has a NUL in it: leave it out")
    return found
