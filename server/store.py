"""Jobs, takes and events in SQLite; guides and pictures as files beside it.

Layout of the data folder::

    jobs.sqlite           jobs, takes and events
    blobs/<sha256>        guides, named by their content
    jobs/<id>/takes/<i>/  frames/0001.png ..., video.mp4, take.json

Files get their final name only when they are whole. The store belongs to one process and one
thread (``FolderLock`` and the service's event loop see to that).
"""

import hashlib
import json
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .validate import guide_hashes

SCHEMA_VERSION = 1
ENDED = ("done", "failed", "cancelled")
TEMPORARY = ".part-"
"""Prefix of names that are not whole yet; whatever still has it at the start is a leftover."""

_TABLES = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL,
    request TEXT NOT NULL, request_sha256 TEXT NOT NULL, plan TEXT,
    state TEXT NOT NULL, error TEXT, created REAL NOT NULL);
CREATE TABLE takes (
    job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, position INTEGER NOT NULL,
    take TEXT NOT NULL, PRIMARY KEY (job, position));
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    type TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX events_of_job ON events(job, id);
"""


def disk_sentence(error: Exception) -> str:
    """What to do about an OSError, or an error of SQLite."""
    return (
        f"The engine could not read or write a file: {error}. Check that the disk is not full, and "
        "that the folders of jobs and models are there and can be written."
    )


class StoreError(RuntimeError):
    """The data folder cannot be used; the text is a sentence."""


class Store:
    """The jobs of one data folder.

    Args:
        folder: the data folder; made if it is not there.

    Raises:
        StoreError: if the folder was written by a newer version, or its database is damaged.
        OSError: if the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / "blobs"
        self.on_event: Callable[[str], None] = lambda job: None
        self.blobs.mkdir(parents=True, exist_ok=True)
        (folder / "jobs").mkdir(exist_ok=True)
        try:
            self._open(folder / "jobs.sqlite")
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"The job list {folder / 'jobs.sqlite'} cannot be read ({error}). "
                "Move it away to start with an empty list; finished takes stay in jobs/."
            ) from error
        for leftover in self.blobs.glob(TEMPORARY + "*"):
            leftover.unlink()
        for leftover in (folder / "jobs").glob(f"*/takes/{TEMPORARY}*"):
            shutil.rmtree(leftover)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    # Blobs

    def blob_path(self, sha256: str) -> Path:
        """Where the guide with this (checked) hash lies or would lie."""
        return self.blobs / sha256

    def has_blob(self, sha256: str) -> bool:
        """Whether the guide with this (checked) hash is here."""
        path = self.blob_path(sha256)
        return path.is_file() and path.stat().st_size > 0  # a power cut may leave it empty

    def new_blob(self) -> "BlobWriter":
        """A writer for one incoming guide."""
        return BlobWriter(self.blobs)

    # Jobs

    def add_job(self, request: dict[str, Any], request_sha256: str, plan: Any) -> str:
        """Put a checked request at the end of the queue; returns the job's id."""
        job = str(uuid.uuid4())
        plan_text = None if plan is None else json.dumps(plan)
        with self._transaction():
            self._db.execute(
                "INSERT INTO jobs (id, request, request_sha256, plan, state, created)"
                " VALUES (?, ?, ?, ?, 'queued', ?)",
                (job, json.dumps(request), request_sha256, plan_text, time.time()),
            )
            self.add_event(job, "state", {"state": "queued"})
        return job

    def next_queued(self) -> str | None:
        """The queued job that is next, or None."""
        row = self._db.execute(
            "SELECT id FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1"
        ).fetchone()
        return row and row["id"]

    def queue_length(self) -> int:
        """How many jobs wait."""
        query = "SELECT count(*) AS n FROM jobs WHERE state = 'queued'"
        return int(self._db.execute(query).fetchone()["n"])

    def job_ids(self) -> list[str]:
        """All jobs, oldest first."""
        return [row["id"] for row in self._db.execute("SELECT id FROM jobs ORDER BY number")]

    def state(self, job: str) -> str | None:
        """queued, running, done, failed or cancelled; None for an unknown job."""
        row = self._db.execute("SELECT state FROM jobs WHERE id = ?", (job,)).fetchone()
        return row and row["state"]

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, oldest first, without their requests."""
        entries = [self.job(job) for job in self.job_ids()]
        return [
            {key: entry[key] for key in entry if key not in ("request", "plan")}
            for entry in entries
            if entry is not None
        ]

    def job(self, job: str) -> dict[str, Any] | None:
        """The job as the protocol shows it, with its request; None if it is unknown."""
        row = self._db.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
        if row is None:
            return None
        position = None
        if row["state"] == "queued":
            ahead = "SELECT count(*) AS n FROM jobs WHERE state = 'queued' AND number < ?"
            position = 1 + self._db.execute(ahead, (row["number"],)).fetchone()["n"]
        return {
            "id": job,
            "state": row["state"],
            "error": row["error"],
            "queue_position": position,
            "created": row["created"],
            "request": json.loads(row["request"]),
            "request_sha256": row["request_sha256"],
            "plan": row["plan"] and json.loads(row["plan"]),
            "takes": self.takes(job),
        }

    def set_running(self, job: str) -> None:
        """The worker begins with the job."""
        self._set_state(job, "running", None)

    def end_job(self, job: str, state: str, error: str | None = None) -> None:
        """The job ended as done, failed or cancelled; adds its last event."""
        with self._transaction():  # an ended job without its last event would keep clients waiting
            self._db.execute("DELETE FROM events WHERE job = ? AND type = 'preview'", (job,))
            self._set_state(job, state, error)
            self.add_event(job, "end", {"state": state, "error": error})

    def delete_job(self, job: str) -> None:
        """Remove an ended job with its takes, and the guides that no other job names."""
        own = guide_hashes(self._request(job))
        self._db.execute("DELETE FROM jobs WHERE id = ?", (job,))
        for sha256 in own - self._named_blobs():
            self.blob_path(sha256).unlink(missing_ok=True)
        if (self.folder / "jobs" / job).exists():
            shutil.rmtree(self.folder / "jobs" / job)

    def recover(self) -> list[str]:
        """Settle what the last service left behind; returns the jobs that were running.

        Queued jobs stay queued. A running job is marked failed, not queued again: it is the most
        likely reason why the service died, and would bring it down again and again. Takes that
        were finished stay. Guides that no job names, because theirs was refused, are removed.
        """
        query = "SELECT id FROM jobs WHERE state = 'running' ORDER BY number"
        running = [row["id"] for row in self._db.execute(query)]
        for job in running:
            known = {take["index"] for take in self.takes(job)}
            for file in sorted((self.folder / "jobs" / job / "takes").glob("*/take.json")):
                name = file.parent.name
                if name.isdigit() and int(name) not in known:
                    try:
                        take = json.loads(file.read_text(encoding="utf-8"))
                    except (ValueError, OSError):
                        continue  # damaged, by a power cut perhaps: not finished
                    self.add_take(job, int(name), take)
            self.end_job(job, "failed", self.interrupted_sentence(job))
        named = self._named_blobs()
        for blob in self.blobs.glob("[0-9a-f]" * 64):
            if blob.name not in named:
                blob.unlink()
        return running

    def interrupted_sentence(self, job: str) -> str:
        """Why a job that was running when the service stopped is failed, and what to do."""
        wanted = len(self._request(job)["seeds"])
        return (
            f"The engine stopped while it worked on this job; {len(self.takes(job))} of {wanted} "
            "takes were finished and are kept. Generate again to make the others."
        )

    # Takes

    def takes_folder(self, job: str) -> Path:
        """Folder of all takes of a job; the worker publishes into it."""
        return self.folder / "jobs" / job / "takes"

    def add_take(self, job: str, index: int, take: dict[str, Any]) -> None:
        """Enter a published take, and tell the listeners."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO takes (job, position, take) VALUES (?, ?, ?)",
                (job, index, json.dumps(take)),
            )
            self.add_event(job, "take", {"index": index, **take})

    def takes(self, job: str) -> list[dict[str, Any]]:
        """The finished takes of a job: take.json with its index."""
        query = "SELECT position, take FROM takes WHERE job = ? ORDER BY position"
        rows = self._db.execute(query, (job,))
        return [{"index": row["position"], **json.loads(row["take"])} for row in rows]

    # Events

    def add_event(self, job: str, kind: str, data: dict[str, Any]) -> None:
        """Append to the job's events. Ids increase over the life of the data folder.

        Only the newest preview is kept: a picture that was overtaken is of no use to anyone.
        """
        if kind == "preview":
            self._db.execute("DELETE FROM events WHERE job = ? AND type = 'preview'", (job,))
        self._db.execute(
            "INSERT INTO events (job, type, data) VALUES (?, ?, ?)", (job, kind, json.dumps(data))
        )
        self.on_event(job)

    def events(self, job: str, since: int) -> list[tuple[int, str, str]]:
        """Events of a job after id ``since``: (id, type, data as JSON text)."""
        query = "SELECT id, type, data FROM events WHERE job = ? AND id > ? ORDER BY id"
        return [
            (row["id"], row["type"], row["data"]) for row in self._db.execute(query, (job, since))
        ]

    def _open(self, file: Path) -> None:
        # Autocommit: one statement, or one _transaction, is what a kill finds done or not done.
        self._db = sqlite3.connect(file, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"The data folder {self.folder} was written by a newer Animatic (format {version}; "
                f"this one reads {SCHEMA_VERSION}). Update Animatic, or choose another folder."
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        if version == 0:
            self._db.executescript(
                f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._db:  # commits, or rolls back on an exception
            self._db.execute("BEGIN")
            yield

    def _request(self, job: str) -> dict[str, Any]:
        row = self._db.execute("SELECT request FROM jobs WHERE id = ?", (job,)).fetchone()
        request: dict[str, Any] = json.loads(row["request"])
        return request

    def _named_blobs(self) -> set[str]:
        return set().union(*(guide_hashes(self._request(job)) for job in self.job_ids()))

    def _set_state(self, job: str, state: str, error: str | None) -> None:
        self._db.execute("UPDATE jobs SET state = ?, error = ? WHERE id = ?", (state, error, job))
        self.add_event(job, "state", {"state": state})


class BlobWriter:
    """Takes the bytes of one guide and names the file by its content when it is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{TEMPORARY}{uuid.uuid4().hex}"
        self._file = self._path.open("xb")
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def publish(self, sha256: str) -> bool:
        """Give the file its name if its content has this hash; says whether it has."""
        if self._hash.hexdigest() != sha256:
            return False
        self._file.flush()
        os.fsync(self._file.fileno())  # or a power cut may leave the name with nothing in it
        self._file.close()
        os.replace(self._path, self._folder / sha256)
        return True

    def discard(self) -> None:
        """Close, and remove what was not published."""
        try:
            self._file.close()  # writes what is left, and fails again on a full disk
        finally:
            self._path.unlink(missing_ok=True)
