"""Machine code from numba, kept on disk where a folder takes it. A cache that fails is never an error."""

import hashlib
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, cast

import numba
from numba.core import caching

P = ParamSpec("P")
R = TypeVar("R")

DAMAGED: Final = (EOFError, ValueError, AttributeError, ImportError, IndexError, pickle.UnpicklingError)
"""What a cache file raises that was cut off, or is of another version."""


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at the first call, or load what an earlier process has compiled.

    Functions that call each other stand in one file: numba compiles anew when the file changes, not when a file that it
    calls into does. The cache is numba's own choice (`NUMBA_CACHE_DIR`, else `__pycache__` beside the source, else the
    user's cache folder), then `cache` below `SKERRY_STATE` or `SKERRY_HOME`, then none.
    """
    dispatcher: Any = numba.njit(nogil=True)(function)
    dispatcher._cache = Caches(function)
    return cast("Callable[P, R]", dispatcher)


class Caches:
    """Looks where numba would, then below Skerry's state: who gave up root may no longer go where it began.

    Has the methods that a numba dispatcher asks of a cache.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._source = hashlib.sha256(Path(function.__code__.co_filename).read_bytes()).hexdigest()
        try:
            self._caches: list[Any] = [caching.FunctionCache(function)]  # type: ignore[no-untyped-call]
        except RuntimeError:  # no folder takes it
            self._caches = []
        self._looked = False

    @property
    def cache_path(self) -> str | None:
        return str(self._caches[0].cache_path) if self._caches else None

    def load_overload(self, signature: Any, target: Any) -> Any:
        for cache in self._all():
            try:
                found = cache.load_overload(signature, target)
            except DAMAGED:
                _forget(cache)
                continue
            except OSError:
                continue
            if found is not None:
                return found
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        for cache in self._all():
            try:
                cache.save_overload(signature, result)
            except (OSError, *DAMAGED):
                continue
            return

    def enable(self) -> None:
        """A cache of ours is always on."""

    def disable(self) -> None:
        """See `enable`."""

    def flush(self) -> None:
        """Files of other versions stay: they may be in use."""

    def _all(self) -> list[Any]:
        """The state's folder is looked for at the first call: then we are whoever we will be."""
        if not self._looked:
            self._looked = True
            folder = state_folder()
            if folder is not None:
                self._caches.append(StateCache(self._function, self._source, folder))
        return self._caches


def state_folder() -> Path | None:
    """Where Skerry may keep machine code; None: nowhere."""
    for state in (os.environ.get("SKERRY_STATE"), os.environ.get("SKERRY_HOME")):
        folder = Path(state) / "cache" if state else None
        try:
            if folder is None or not folder.parent.is_dir():
                continue
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.stat().st_uid != os.geteuid():  # it holds programs: nobody else's are loaded
                continue
            (folder / "numba").mkdir(mode=0o700, exist_ok=True)
        except OSError:
            continue
        return folder / "numba"
    return None


class StateCache(caching.FunctionCache):
    """numba's cache, but for the folder, and for the source, which was read when it could be."""

    def __init__(self, function: Callable[..., Any], source: str, folder: Path) -> None:
        self._name = repr(function)
        self._py_func = function
        self._impl = _StateImpl(function, source, folder)
        self._cache_path = str(folder)
        self._cache_file = caching.IndexDataCacheFile(str(folder), self._impl.filename_base, source)  # type: ignore[no-untyped-call]
        self.enable()  # type: ignore[no-untyped-call]


class _StateImpl(caching.CompileResultCacheImpl):
    def __init__(self, function: Callable[..., Any], source: str, folder: Path) -> None:
        self._lineno = function.__code__.co_firstlineno
        self._locator = _Locator(function.__code__.co_filename, self._lineno, source, folder)
        name = f"{function.__module__}.{function.__qualname__}"
        self._filename_base = self.get_filename_base(name, sys.abiflags)  # type: ignore[no-untyped-call]


class _Locator(caching._CacheLocator):
    def __init__(self, file: str, line: int, source: str, folder: Path) -> None:
        self._py_file, self._line, self._source, self._folder = file, line, source, folder

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._source

    def get_disambiguator(self) -> str:
        return str(self._line)


def _forget(cache: Any) -> None:
    """What cannot be read is written anew."""
    try:
        cache.flush()
    except OSError:
        return
