"""The output folder of a run, written so that no half of a take ever bears a final name; and back.

Layout: ``request.json``, ``guides/``, ``shot.blend`` and the first take (``take.json``,
``video.mp4``, ``frames/0001.png`` ...) in the folder itself, later takes in ``take-02/`` and so on.

All of it is first written to a hidden folder beside the output folder, and renamed into place at
the end. Beside, not inside, for two reasons: the file system is the same, and paths in shot.blend
that are relative to it stay true.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

from .errors import ShotError
from .in_use import Lock, sweep_staging
from .motion_files import MOTION, STEADY
from .own_pictures import SUFFIXES
from .request import SCHEMA, request_hash

# Everything that a run writes; nothing else in an output folder is ever touched.
_OURS = re.compile(
    r"request\.json|shot\.blend"
    r"|guides/(contact_sheet|(depth|lineart|render)_\d{4})\.png"
    r"|guides/(first|reference)\.(png|jpg|webp|tif|bmp)"
    r"|guides/motion/\d{4,}_(before|after)\.png"
    r"|guides/deflicker/\d{4,}_\d{4,}\.png"
    r"|(take-\d{2,}/)?(take\.json|video(-[\d.]+)?\.mp4|(frames(-[\d.]+)?|held-[\d.]+)/\d{4,}\.png)"
)
# Written by every run, and hardly by anything else: shows that the files are a run's.
_MARKS = ("request.json", "guides/contact_sheet.png")
_BLEND = "shot.blend"
NUMBER = "_###"
"""Ends the name of an output folder that gets the next free number: ``shot_###``, ``shot_001``."""
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES}


class OutputFolder:
    """One run's output: write under ``staging``, then ``publish`` it or ``discard`` it.

    As a context it is discarded where an error ends it; a full disk is then a ShotError.
    """

    def __init__(
        self,
        out: Path,
        staging: Path,
        force: bool,
        made: list[Path],
        lock: Lock | None = None,
        numbered: Path | None = None,
    ) -> None:
        self.out = out
        self._lock = lock
        self._numbered = numbered
        self.staging = staging
        self._force = force
        self._made = made

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            return
        self.discard()
        if isinstance(error, OSError) and error.errno in _DISK:
            raise _not_writable(self.out, self.out.parent, error) from error

    @classmethod
    def prepare(cls, out: Path, force: bool = False, source: Path | None = None) -> OutputFolder:
        """Check that ``out`` can take a run, and make the staging folder beside it.

        ``out`` itself is not created or changed. Where its name ends in NUMBER, it is the next one
        that is free. ``force`` allows to replace an earlier run's files, but never ``source``, the
        file that is rendered. Raises ShotError when ``out`` holds a run (or files named like
        one's), is no folder, or cannot be written.
        """
        asked, out = out, out.expanduser().resolve()
        numbered = out if out.name.endswith(NUMBER) else None
        made: list[Path] = []
        try:
            if numbered is not None:
                asked = out = _next_number(numbered)
            if out.exists() and not out.is_dir():
                raise ShotError(f"{asked} is a file: name a folder for the output.")
            _refuse_taken(asked, out, force, source)
            made = _make_parents(out.parent)
            staging = out.parent / f".{out.name}.{secrets.token_hex(4)}.partial"
            sweep_staging(out.parent)
            staging.mkdir()
            lock = None
            with contextlib.suppress(OSError):  # no locks on this drive: it is never swept
                lock = Lock(out.parent / f"{staging.name}.lock")
            folder = cls(out, staging, force, made, lock, numbered)
        except OSError as error:
            _remove_empty(made)
            raise _not_writable(asked, out.parent, error) from error
        try:
            if out.exists():
                if out.stat().st_dev != staging.stat().st_dev:
                    raise ShotError(
                        f"{asked} is the top folder of a drive: name a folder inside it, such as "
                        f"{asked / 'take'}."
                    )
                with tempfile.TemporaryFile(dir=out):
                    pass
        except OSError as error:
            folder.discard()
            raise _not_writable(asked, out, error) from error
        except ShotError:
            folder.discard()
            raise
        return folder

    @staticmethod
    def next_free(out: Path) -> Path:
        """Return the first of OUT-2, OUT-3 ... (counting on from a number it has) that is free.

        For a run's ``take-02`` it is the run's folder that is counted on.
        """
        if re.fullmatch(r"take-\d{2,}", out.name) and (out.parent / "request.json").is_file():
            out = out.parent
        match = re.fullmatch(r"(.*?)-(\d{1,6})", out.name)
        stem, number = (match[1], int(match[2])) if match else (out.name, 1)
        while True:
            number += 1
            candidate = out.with_name(f"{stem}-{number}")
            if not candidate.exists():
                return candidate

    def take(self, index: int) -> Path:
        """Return the staging folder of take ``index``, counted from 0, and make it."""
        folder = take_folder(self.staging, index)
        folder.mkdir(exist_ok=True)
        return folder

    def publish(self) -> Path:
        """Give everything its final name, and return the output folder.

        With ``force`` the earlier run's files go only now, all of them; its shot.blend, which may
        hold work, is kept as shot.blend1, as Blender does on saving. If another run, of another
        Blender say, was published there meanwhile, this one goes to the next free name or number
        instead. Raises ShotError when a file cannot be moved; the folder is then as it was.
        """
        try:
            if self._numbered is not None and self.out.exists():
                self.out = _next_number(self._numbered)
            elif not self._force and self.out.exists() and _ours(self.out):
                self.out = self.next_free(self.out)
            if self.out.exists():
                self._merge()
            else:
                self.staging.rename(self.out)
        except OSError as error:
            raise ShotError(
                f"The result could not be moved to {self.out} ({error.strerror}). Check the folder "
                "and try again."
            ) from error
        self._made = []
        self._release()
        return self.out

    def discard(self) -> None:
        """Remove everything not published, and folders made for it. May be called at any time."""
        shutil.rmtree(self.staging, ignore_errors=True)
        self._release()
        _remove_empty(self._made)
        self._made = []

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _merge(self) -> None:
        """Move the staged files into the folder that is there, the old ones aside before."""
        aside = self.staging.with_suffix(".old")
        old = _ours(self.out)
        new = [str(p.relative_to(self.staging)) for p in self.staging.rglob("*") if p.is_file()]
        moved: list[tuple[Path, Path]] = []
        try:
            for name in old:
                _move(self.out / name, aside / name, moved)
            for name in new:
                _move(self.staging / name, self.out / name, moved)
            if (aside / _BLEND).exists():
                (aside / _BLEND).replace(self.out / f"{_BLEND}1")
        except OSError:
            for source, target in reversed(moved):
                source.parent.mkdir(parents=True, exist_ok=True)
                target.rename(source)
            _remove_empty_below(self.out)
            shutil.rmtree(aside, ignore_errors=True)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(self.staging, ignore_errors=True)
        _remove_empty_below(self.out)


def shown_files(out: Path, take: int) -> list[Path]:
    """Return what a strip shows of take ``take``: the frames at the scene's rate, where made."""
    return shown_in(take_folder(out, take))


def shown_in(folder: Path) -> list[Path]:
    """As ``shown_files``, of the take in ``folder``."""
    return sorted(folder.glob("frames-*/*.png")) or sorted(folder.glob("frames/*.png"))


def take_folder(out: Path, index: int) -> Path:
    """Return the folder of take ``index`` (counted from 0) in the output folder ``out``."""
    return out if index == 0 else out / f"take-{index + 1:02d}"


def _next_number(numbered: Path) -> Path:
    """Return the first of ``numbered``'s folders that is not there."""
    stem = numbered.name.removesuffix(NUMBER)
    number = 1
    while (folder := numbered.with_name(f"{stem}_{number:03}")).exists():
        number += 1
    return folder


def _ours(out: Path) -> list[str]:
    """Return the files in ``out`` that bear a name of ours, relative to it."""
    # Looked for where they can be: an output folder may hold anything besides, and much of it.
    kinds = ("frames*/*", "held-*/*")
    in_takes = (f"take-*/{kind}" for kind in kinds)
    guides = ("guides/*", f"guides/{MOTION}/*", f"guides/{STEADY}/*")
    places = ("*", *guides, "take-*/*", *kinds, *in_takes)
    names = (path.relative_to(out).as_posix() for place in places for path in out.glob(place))
    return sorted(name for name in names if _OURS.fullmatch(name) and not (out / name).is_dir())


def _refuse_taken(asked: Path, out: Path, force: bool, source: Path | None) -> None:
    ours = _ours(out) if out.is_dir() else []
    if not ours:
        return
    free = OutputFolder.next_free(asked)
    if not any(mark in ours for mark in _MARKS):
        raise ShotError(
            f"{asked} holds {ours[0]}, which would be overwritten and is not from Animatic. "
            f"Name another folder, e.g. --out {free}."
        )
    if source is not None and any((out / name).samefile(source) for name in ours):
        raise ShotError(
            f"{source.name} lies in {asked} and would be overwritten. Name another folder, "
            f"e.g. --out {free}."
        )
    if not force:
        raise ShotError(
            f"{asked} already holds a take, which is never overwritten. Name another folder, "
            f"e.g. --out {free}, or replace it with --force."
        )


def _not_writable(asked: Path, folder: Path, error: OSError) -> ShotError:
    return ShotError(
        f"The output folder {asked} cannot be written: {error.strerror} ({folder}). Name another "
        "with --out, in a folder of yours."
    )


def _make_parents(folder: Path) -> list[Path]:
    """Make ``folder``; return the folders that were missing, outermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir()
            made.append(path)
    except OSError:
        _remove_empty(made)
        raise
    return made


def _remove_empty(folders: list[Path]) -> None:
    # Someone else may have put something into them meanwhile.
    with contextlib.suppress(OSError):
        for folder in reversed(folders):
            folder.rmdir()


def _remove_empty_below(out: Path) -> None:
    """Remove the folders of ours that have become empty."""
    takes = sorted(out.glob("take-*"))
    kinds = ("frames*", "held-*")
    frames = [folder for take in (out, *takes) for kind in kinds for folder in take.glob(kind)]
    guides = [out / "guides" / name for name in (MOTION, STEADY, "")]
    for folder in [*guides, *frames, *takes]:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _move(source: Path, target: Path, moved: list[tuple[Path, Path]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        raise FileExistsError(errno.EEXIST, f"{target} is already there")
    source.rename(target)
    moved.append((source, target))


def load_take(
    path: Path,
) -> tuple[dict[str, Any] | None, dict[str, Any], dict[str, Path]]:
    """Return (take, request, guides) of a ``take.json``, or of a ``request.json`` without a take.

    The request lies beside a take or in the folder above it, the guides in ``guides/`` beside the
    request; ``guides`` maps each SHA-256 that the request names to its file. Raises ShotError when
    a file is missing, cannot be read, is of a later version, or has changed since.
    """
    content = _read(path)
    if "request_sha256" not in content:
        if "controls" not in content:
            raise ShotError(f"{path} is neither a take nor a request: name a run's take.json.")
        return None, content, _guides(content, path.resolve().parent)
    folder = path.resolve().parent
    places = [folder / "request.json", folder.parent / "request.json"]
    beside = next((place for place in places if place.is_file()), None)
    if beside is None:
        raise ShotError(
            f"{path} has no request.json beside it: keep the files of an output folder together."
        )
    request = _read(beside)
    if request_hash(request) != content["request_sha256"]:
        raise ShotError(
            f"{beside} has changed since {path} was made: put the original back, or run the "
            f"changed request as a new one (animatic generate {beside})."
        )
    return content, request, _guides(request, beside.parent)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ShotError(f"There is no file {path}: name a run's take.json.") from error
    except OSError as error:
        raise ShotError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ShotError(f"{path} is damaged: it is not JSON text ({error}).") from error
    if not isinstance(content, dict) or "schema" not in content:
        raise ShotError(f"{path} is neither a take nor a request: name a run's take.json.")
    if content["schema"] != SCHEMA:
        raise ShotError(
            f"{path} is of version {content['schema']}, and this Animatic reads version {SCHEMA}: "
            "update Animatic."
        )
    return content


def _guides(request: dict[str, Any], folder: Path) -> dict[str, Path]:
    # By content, so that a renamed file is found, and no name from a request is ever opened.
    places = (folder / "guides", folder / "guides" / STEADY)
    pictures = sorted(p for f in places for p in f.glob("*") if p.suffix in SUFFIXES)
    found = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in pictures}
    guides = {}
    for control in request["controls"]:
        for keyframe in control["keyframes"]:
            sha256 = keyframe["sha256"]
            if sha256 not in found:
                name = f"{control['guide']}_{keyframe['clip_frame'] + 1:04d}.png"
                path = folder / "guides" / name
                state = "has changed since" if path.is_file() else "is missing"
                raise ShotError(f"The guide {path} {state}: render the scene again.")
            guides[sha256] = found[sha256]
    for motion in request.get("deflicker", []):
        if motion["sha256"] not in found:
            raise ShotError(
                f"Motion between frames is not in {places[1]} any more, or has changed: render the "
                "scene again."
            )
        guides[motion["sha256"]] = found[motion["sha256"]]
    own = {
        "reference picture": request.get("image_prompt"),
        "first picture": request.get("sampling", {}).get("first_frame"),
    }
    for what, picture in own.items():
        if picture is None or "sha256" not in picture:  # the engine makes that one
            continue
        if picture["sha256"] not in found:
            raise ShotError(
                f"The {what} is not in {folder / 'guides'} any more, or has changed: put the "
                "original back."
            )
        guides[picture["sha256"]] = found[picture["sha256"]]
    return guides
