"""Requests about files."""

from collections.abc import Callable, Mapping
from pathlib import Path

from skerry.client.answers.base import reader
from skerry.client.answers.work import File
from skerry.client.call import Call, Page, Upload, at, delete, get, openai_listing, raw

FILES = "/v1/files"


def upload_file(
    path: Path | str,
    *,
    purpose: str = "batch",
    expires_after: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Call[File]:
    """Send a file from disk as it is read. `expires_after`: seconds. `progress` hears how many bytes have gone."""
    fields = {"purpose": purpose}
    if expires_after is not None:
        fields |= {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(expires_after)}
    return Call("POST", FILES, reader(File), upload=Upload(Path(path), fields, progress))


def list_files(*, purpose: str | None = None, limit: int | None = None) -> Call[Page[File]]:
    """The project's files, newest first."""
    return openai_listing(FILES, reader(File), purpose=purpose, limit=limit)


def get_file(file_id: str) -> Call[File]:
    return get(at(FILES, file_id), reader(File))


def file_content(file_id: str, *, offset: int = 0) -> Call[None]:
    """Its bytes from `offset` on."""
    headers: Mapping[str, str] = {"range": f"bytes={offset}-"} if offset else {}
    return raw(at(FILES, file_id, "content"), headers=headers)


def delete_file(file_id: str) -> Call[None]:
    """Gone at once, for good."""
    return delete(at(FILES, file_id))
