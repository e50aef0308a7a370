"""Downloads a model's files from the hub: resumed where they broke off, checked before they count.

huggingface_hub resumes within one call only and starts anew in the next, so the partial files and
their hashes are kept here; asking for a file's address and hash, redirects, tokens, proxies and
retries are the library's.
"""

import hashlib
import http.client
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import HfFileMetadata, http_get
from huggingface_hub.utils import build_hf_headers

from .folder_lock import FolderBusy, FolderLock
from .models import CARD, Model, ModelError, ModelFile

OnEvent = Callable[[dict[str, Any]], None]
PARTS = ".part"
"""Folder beside the model's, with what is not whole yet."""
_SPARE = 200_000_000  # bytes that stay free on the disk
_TELL_SECONDS = 0.2
_TRIES = 5
_WAIT_SECONDS = 1.0
# The library's 10 MB are lost with each cut, and too coarse for a progress bar.
constants.DOWNLOAD_CHUNK_SIZE = 1 << 20


class Download:
    """One model's download into a models folder; ``run`` may be called again after a failure.

    Args:
        model: what to download.
        models: the models folder.
        on_event: gets ``{"phase": "download", "done", "of", "text"}``, done and of in MB (10^6
            bytes), and phase "check" while a file's hash is computed.
    """

    def __init__(self, model: Model, models: Path, on_event: OnEvent) -> None:
        self._model = model
        self._folder = models / model.folder
        self._parts = models / PARTS / model.name
        self._on_event = on_event
        self._before = 0  # bytes of the files that are finished
        self._told = 0.0
        self._heard = False  # of the hub; before that, waiting for it is of no use

    def run(self) -> Path:
        """Download what is missing and return the model's folder.

        Raises ModelError with a sentence. Partial files stay for the next run; nothing appears in
        the model's folder before all of its files are there and have the right hashes.
        """
        whole = self._folder / self._model.last_file
        if whole.is_file():
            return self._folder
        try:
            self._parts.parent.mkdir(parents=True, exist_ok=True)
            # For all models: they share the disk, and some are published into another's folder.
            lock = FolderLock(self._parts.parent)
            try:
                if not whole.is_file():  # or another process has finished it just now
                    self._fetch()
            finally:
                lock.release()
        except FolderBusy as error:
            raise ModelError(
                "Another Blender, or the command line, is downloading a model to "
                f"{self._parts.parents[1]}: wait until it has finished, then download again."
            ) from error
        except HfHubHTTPError as error:
            raise ModelError(_hub_sentence(error, self._model.name)) from error
        except OSError as error:
            raise ModelError(
                f"{self._model.name} cannot be written to {self._folder.parent}: "
                f"{error.strerror or error}. Free some space, or choose another models folder."
            ) from error
        return self._folder

    def _fetch(self) -> None:
        self._parts.mkdir(exist_ok=True)
        self._check_disk()
        for file in self._model.files:
            if not self._is_here(file):
                self._download(file)
            self._before += (self._parts / file.to).stat().st_size
        self._publish()

    def _check_disk(self) -> None:
        have = sum(path.stat().st_size for path in self._parts.rglob("*") if path.is_file())
        wanted = max(0, self._model.bytes - have) + _SPARE
        free = shutil.disk_usage(self._parts).free
        if free < wanted:
            raise ModelError(
                f"{self._model.name} needs {wanted / 1e9:.1f} GB more, and the disk of "
                f"{self._folder.parent} has {free / 1e9:.1f} GB free: free some space, or choose "
                "a models folder on another disk."
            )

    def _is_here(self, file: ModelFile) -> bool:
        """Whether an earlier run has left the file, and it is still the right one.

        The catalogue may name another content now, or a power cut may have emptied the file.
        """
        path = self._parts / file.to
        if not path.is_file():
            return False
        return self._check(file, path, file.sha256 or _expected_hash(file, self._ask(file)))

    def _check(self, file: ModelFile, path: Path, expected: str) -> bool:
        """Whether the content has this hash; if not, it is thrown away."""
        self._tell("check", file, path.stat().st_size)
        right = content_hash(path, expected) == expected
        if not right:
            path.unlink()
        return right

    def _download(self, file: ModelFile) -> None:
        tries = _TRIES
        while True:
            # Asked every time: the address that a hub gives is good for an hour or so.
            remote = self._ask(file)
            expected = _expected_hash(file, remote)
            # Named by its hash: what was begun of another content is not continued.
            part = self._parts / f"{expected}.incomplete"
            had = part.stat().st_size if part.is_file() else 0
            try:
                self._receive(file, remote, part)
                break
            except (httpx2.TransportError, OSError) as error:
                # The disk's errors have a number; the hub's answers and a wrong size have none.
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                tries = _TRIES if part.stat().st_size > had else tries - 1
                if not tries:
                    raise ModelError(
                        f"The download of {file.file} broke off ({_words(error)}). What is here is "
                        "kept: download again to go on from there."
                    ) from error
                time.sleep(_WAIT_SECONDS)
        if not self._check(file, part, expected):
            raise ModelError(
                f"{file.file} arrived damaged, or is another file than it should be: its checksum "
                "is wrong, and it was thrown away. Download again; if that fails too, do not use "
                "this source."
            )
        target = self._parts / file.to
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, target)

    def _ask(self, file: ModelFile) -> HfFileMetadata:
        address = hf_hub_url(file.repository, file.file, revision=file.revision)
        try:
            remote = get_hf_file_metadata(address, retry_on_errors=self._heard)
            self._heard = True
            return remote
        except OfflineModeIsEnabled as error:
            raise ModelError(
                "Downloads are switched off in the environment, by HF_HUB_OFFLINE or "
                "TRANSFORMERS_OFFLINE: unset it, then download again."
            ) from error
        except httpx2.TransportError as error:
            raise ModelError(
                f"The model hub {constants.ENDPOINT} does not answer ({_words(error)}): check the "
                "network connection and download again; what is here already is kept."
            ) from error

    def _receive(self, file: ModelFile, remote: HfFileMetadata, part: Path) -> None:
        with part.open("ab") as output:
            size = output.tell()
            if remote.size is not None and size > remote.size:
                output.truncate(0)
                size = 0
            counted = _Counted(output, lambda done: self._tell("download", file, done))
            http_get(
                remote.location,
                counted,  # type: ignore[arg-type]
                resume_size=size,
                headers=build_hf_headers() if _on_hub(remote.location) else None,
                expected_size=remote.size,
                displayed_filename=file.file,
            )
            output.flush()
            os.fsync(output.fileno())  # or a power cut may leave the name with nothing in it

    def _tell(self, phase: str, file: ModelFile, done: int) -> None:
        now = time.monotonic()
        if phase == "download" and now - self._told < _TELL_SECONDS:
            return
        self._told = now
        total = (self._before + done) // 1_000_000
        of = max(1, self._model.bytes // 1_000_000)
        self._on_event({"phase": phase, "done": min(total, of), "of": of, "text": file.file})

    def _publish(self) -> None:
        for left in self._parts.glob("*.incomplete"):
            left.unlink()  # of a content that the catalogue does not name any more
        if self._model.card is not None:
            with (self._parts / CARD).open("w", encoding="utf-8") as card:
                json.dump(self._model.card, card, indent=2)
                card.flush()
                os.fsync(card.fileno())
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        if self._folder.is_dir():
            self._take_in()
        os.replace(self._parts, self._folder)

    def _take_in(self) -> None:
        """Keep what lies in the model's folder already: parts that were downloaded before it."""
        for path in list(self._folder.iterdir()):
            if (self._parts / path.name).exists():
                raise ModelError(
                    f"{path} is there already, but {self._model.name} is not whole: move it away, "
                    "then download again; nothing is loaded twice."
                )
            os.replace(path, self._parts / path.name)
        self._folder.rmdir()


class _Counted:
    """A file that tells its size as it grows; http_get writes to it."""

    def __init__(self, file: Any, on_size: Callable[[int], None]) -> None:
        self._file = file
        self._on_size = on_size

    def write(self, data: bytes) -> int:
        """Append."""
        written: int = self._file.write(data)
        self._on_size(self._file.tell())
        return written

    def tell(self) -> int:
        """Where the next byte goes."""
        where: int = self._file.tell()
        return where

    def seek(self, where: int) -> int:
        """Go elsewhere."""
        now: int = self._file.seek(where)
        return now

    def truncate(self) -> int:
        """Cut off what is behind."""
        size: int = self._file.truncate()
        return size


def content_hash(path: Path, like: str) -> str:
    """The hash of a file in the way of ``like``: SHA-256, or git's for small files on the hub."""
    with path.open("rb") as file:
        if len(like) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest()
        blob = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        while block := file.read(1 << 20):
            blob.update(block)
        return blob.hexdigest()


def _expected_hash(file: ModelFile, remote: HfFileMetadata) -> str:
    told = (remote.etag or "").lower()
    if file.sha256 is not None:
        if len(told) == 64 and told != file.sha256:
            raise ModelError(
                f"The hub has another {file.file} than Animatic knows (its checksum begins with "
                f"{told[:12]}, not {file.sha256[:12]}): nothing was loaded. Update Animatic."
            )
        return file.sha256
    if len(told) not in (40, 64) or set(told) - set("0123456789abcdef"):
        raise ModelError(
            f"The hub does not tell the checksum of {file.file}, so that it cannot be checked: "
            "nothing was loaded. Try again later."
        )
    return told


def _on_hub(address: str) -> bool:
    """Whether it is the hub's own, which may see the token; a redirect's other host may not."""
    there, hub = httpx2.URL(address), httpx2.URL(constants.ENDPOINT)
    return (there.scheme, there.host, there.port) == (hub.scheme, hub.host, hub.port)


def _hub_sentence(error: HfHubHTTPError, model: str) -> str:
    if isinstance(error, GatedRepoError):
        return (
            f"{model} may only be downloaded after its licence was accepted on the hub: do so "
            "there, log in with `hf auth login`, then download again."
        )
    if isinstance(
        error, RepositoryNotFoundError | RevisionNotFoundError | RemoteEntryNotFoundError
    ):
        return f"The hub does not have {model} any more, or not in this version: update Animatic."
    if error.response.status_code == 401:
        return (
            "The model hub does not accept the access token of this machine: correct or unset "
            "HF_TOKEN, or log in anew with `hf auth login`, then download again."
        )
    status = http.client.responses.get(error.response.status_code, "")
    return (
        f"The model hub answered {error.response.status_code} {status}: try again later; what is "
        "here already is kept."
    )


def _words(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
