"""A checkpoint folder on disk: what it says of itself, its content hash, and reading its parts.

Layout (diffusers): unet/, motion_adapter/, vae/, text_encoder/, tokenizer/, scheduler/, one folder
for each control encoder, and animatic.json, which names the model's native size and which guide
goes to which control encoder. Weights in these folders are .safetensors: a pickle can run code.

Published files can stand in for folders: animatic.json's "files" names them, in the checkpoint's
folder, as "base" (a single-file Stable Diffusion checkpoint, for unet/, vae/ and text_encoder/),
"motion" (for motion_adapter/), "adapter" (the domain adapter, a LoRA that is merged into the image
layers) and by the names that "guides" gives control encoders. "scales" may weaken "adapter" and
"motion" (both 1).

Parts that may be added or left out: "image_guides" gives guides an image ControlNet, a folder or a
published file, beside or in place of their SparseCtrl encoder; "image_prompt" names the folder of
an image encoder and the IP-Adapter file. Suffixes may be left out, and what is not there is not
offered.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .errors import EngineError

GUIDES = ("depth", "lineart", "render")
# What a request's controls may name: SparseCtrl's encoders, and ordinary ControlNets.
SPARSE, IMAGE = "sparse", "image"
_PARTS = ("unet", "motion_adapter", "vae", "text_encoder", "tokenizer", "scheduler")
LORAS = "loras"
# What a published file stands in for; a control encoder's stands in for its folder.
_REPLACED = {"base": ("unet", "vae", "text_encoder"), "motion": ("motion_adapter",), "adapter": ()}
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_SCALES = {"adapter": 1.0, "motion": 1.0}
_PLAIN_PATH = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
_AGAIN = "Copy or download the checkpoint again."


@dataclass(frozen=True)
class CheckpointInfo:
    """What animatic.json says. ``guides`` maps a guide to the folder of its control encoder and
    holds only those that are there; ``lineart_width`` is in pixels at the native size. ``files``
    maps parts to published files in the folder; ``scales`` has "adapter" and "motion", 0 to 2.
    ``image_guides`` maps guides to the folders or files of image ControlNets that are there;
    ``image_prompt`` has the paths of "encoder" and "adapter", or nothing; ``few_steps`` the name
    of a "lora" and the "steps" that it takes at each quality level it is for, or nothing;
    ``vocabulary`` the "words" that a small model has learned, its "colours" and an "example";
    ``shared_noise`` is the side of the squares, in latents, whose means all frames of its noise
    share, or 0 (see ``noise.shared_side``); ``timestep_shift`` moves the steps of LCM's schedule
    towards noise (1: not).
    """

    folder: Path
    name: str
    native: dict[str, Any]
    guides: dict[str, str]
    defaults: dict[str, Any]
    lineart_width: float
    files: dict[str, str] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=lambda: dict(_SCALES))
    image_guides: dict[str, str] = field(default_factory=dict)
    image_prompt: dict[str, Path] = field(default_factory=dict)
    few_steps: dict[str, Any] = field(default_factory=dict)
    vocabulary: dict[str, Any] = field(default_factory=dict)
    shared_noise: int = 0
    timestep_shift: float = 1.0

    @property
    def encoders(self) -> dict[str, list[str]]:
        """The kinds of control encoder that each guide has here, the usual one first."""
        return {
            guide: [SPARSE] * (guide in self.guides) + [IMAGE] * (guide in self.image_guides)
            for guide in GUIDES
            if guide in self.guides or guide in self.image_guides
        }

    def encoder_for(self, guide: str, wanted: str | None = None) -> str:
        """The kind of encoder for ``guide``: the ``wanted`` one, or the usual one for None.

        Raises EngineError where the checkpoint has none.
        """
        has = self.encoders.get(guide, [])
        if not has:
            raise EngineError(
                f"The checkpoint {self.name} has no control encoder for {guide} guides; it takes "
                f"{', '.join(self.encoders) or 'no guides'}. Choose one of these, or another "
                "checkpoint."
            )
        if wanted is not None and wanted not in has:
            raise EngineError(
                f"The checkpoint {self.name} has no {wanted} encoder for {guide} guides, only a "
                f"{has[0]} one. Use that, or install the other (`animatic models` lists what "
                "there is)."
            )
        return wanted or has[0]

    def path(self, part: str) -> Path:
        """The folder of a part, or the published file that stands in for it."""
        return self.folder / self.files.get(part, part)


def read_info(folder: Path) -> CheckpointInfo:
    """Read animatic.json. Raises EngineError, naming the file, where it is missing or wrong."""
    if not folder.is_dir():
        raise EngineError(f"There is no checkpoint folder {folder}. Check the model's location.")
    path = folder / "animatic.json"
    stored = read_json(path, "the description of an Animatic checkpoint")
    try:
        if stored["schema"] != 1:
            raise EngineError(
                f"{path} has schema {stored['schema']!r}; this version of Animatic reads schema 1. "
                "Update Animatic, or use an older copy of the checkpoint."
            )
        native = {key: stored["native"][key] for key in ("width", "height", "frames", "fps")}
        defaults = {key: stored["defaults"][key] for key in ("steps", "guidance")}
        defaults["guidance_end"] = float(stored["defaults"].get("guidance_end", 1.0))
        if "schedule" in stored["defaults"]:
            defaults["schedule"] = str(stored["defaults"]["schedule"])
        if "keyframes" in stored["defaults"]:
            defaults["keyframes"] = dict(stored["defaults"]["keyframes"])
        defaults["deflicker"] = bool(stored["defaults"].get("deflicker", False))
        declared = dict(stored["guides"])
        name, lineart_width = str(stored["name"]), float(stored["lineart_width"])
        files = {part: str(file) for part, file in stored.get("files", {}).items()}
        scales = _SCALES | {part: float(s) for part, s in stored.get("scales", {}).items()}
        image_guides = dict(stored.get("image_guides", {}))
        image_prompt = dict(stored.get("image_prompt", {}))
        told = stored.get("few_steps")
        few_steps = _few_steps(told) if told else {}
        vocabulary = dict(stored.get("vocabulary", {}))
        shared_noise = max(0, int(stored.get("shared_noise", 0)))
        timestep_shift = max(1.0, float(stored.get("timestep_shift", 1.0)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(
            f"{path} lacks or mistakes an entry ({error}); expected name, native (width, height, "
            f"frames, fps), guides, defaults (steps, guidance) and lineart_width. {_AGAIN}"
        ) from error
    for guide, part in [*declared.items(), *image_guides.items()]:
        # The folder's name comes from a file that somebody else may have made.
        if guide not in GUIDES or not re.fullmatch(r"\w[\w.-]*", str(part)):
            raise EngineError(
                f"{path} gives the guide {guide!r} the folder {part!r}; expected a folder's plain "
                f"name for each of {', '.join(GUIDES)}. {_AGAIN}"
            )
    _check_files(path, files, scales, {*_REPLACED, *declared.values()})
    info = CheckpointInfo(folder, name, native, declared, defaults, lineart_width, files, scales)
    return replace(
        info,
        guides={g: part for g, part in declared.items() if info.path(part).exists()},
        image_guides={
            guide: found.name
            for guide, part in image_guides.items()
            if (found := _with_suffix(folder / part)) is not None
        },
        image_prompt=_image_prompt(path, image_prompt),
        few_steps=few_steps,
        vocabulary=vocabulary,
        shared_noise=shared_noise,
        timestep_shift=timestep_shift,
    )


def _few_steps(told: dict[str, Any]) -> dict[str, Any]:
    steps = {str(level): int(count) for level, count in dict(told["steps"]).items()}
    return {"lora": str(told["lora"]), "steps": steps}


def _image_prompt(card: Path, declared: dict[str, Any]) -> dict[str, Path]:
    """The paths of an image prompt's two parts; nothing where one of them is not there."""
    if not declared:
        return {}
    plain = all(_PLAIN_PATH.fullmatch(str(part)) for part in declared.values())
    if declared.keys() != {"encoder", "adapter"} or not plain:
        raise EngineError(
            f"{card} describes the image prompt as {declared}; expected an encoder and an adapter, "
            f"each a plain path in the checkpoint's folder. {_AGAIN}"
        )
    encoder, adapter = (card.parent / str(declared[part]) for part in ("encoder", "adapter"))
    found = _with_suffix(adapter)
    if found is None or not found.is_file() or not encoder.is_dir():
        return {}
    return {"encoder": encoder, "adapter": found}


def _with_suffix(part: Path) -> Path | None:
    """``part``, or the weight file whose suffix it lacks, where there is one of them."""
    names = [part, *(part.with_name(part.name + end) for end in (".safetensors", *_PICKLES))]
    return next((path for path in names if path.exists()), None)


def _check_files(
    path: Path, files: dict[str, str], scales: dict[str, float], parts: set[str]
) -> None:
    for part, file in files.items():
        if part not in parts or Path(file).name != file or "\\" in file:
            raise EngineError(
                f"{path} gives the part {part!r} the file {file!r}; expected a plain file name for "
                f"each of {', '.join(sorted(parts))}. Correct it there."
            )
    for part, scale in scales.items():
        if part not in _SCALES or not 0 <= scale <= 2:
            raise EngineError(
                f"{path} gives {part!r} the scale {scale:g}; expected 0 to 2 for each of "
                f"{', '.join(_SCALES)}. Correct it there."
            )


def describe(checkpoint_dir: Path) -> dict[str, Any]:
    """The checkpoint as GET /v1/models lists it, without loading weights.

    {"name", "sha256", "native": {width, height, frames, fps}, "guides": [...], "encoders":
    {guide: ["sparse", "image"]}, "image_prompt": whether it takes one, "loras": [names],
    "few_steps": {lora, steps} or {}, "vocabulary": {words, colours, example} or {}, "defaults":
    {steps, guidance, guidance_end, schedule where it is not the model's own, keyframes by guide
    where it has some that suit it best}, "lineart_width"}.
    Raises EngineError with a sentence.
    """
    info = read_info(Path(checkpoint_dir))
    return {
        "name": info.name,
        "sha256": content_hash(info),
        "native": info.native,
        "guides": list(info.encoders),
        "encoders": info.encoders,
        "image_prompt": bool(info.image_prompt),
        "loras": sorted({path.stem for path in lora_files(info.folder)}),
        "few_steps": info.few_steps,
        "vocabulary": info.vocabulary,
        "defaults": info.defaults,
        "lineart_width": info.lineart_width,
    }


def content_hash(info: CheckpointInfo) -> str:
    """SHA-256 of all that decides the model's output: its parts' files, the guides' encoders, and
    what the card says of scales, noise and steps.

    Not of its name, licence, defaults or vocabulary, so that these can be corrected without making
    the model another one. Nor of image ControlNets and IP-Adapters: adding one must not make the
    checkpoint another for all requests and takes that do not use it. A take that does has their own
    hashes in its plan (``part_hash``). Files are hashed again only when their size or time changes.
    """
    total = hashlib.sha256(json.dumps(info.guides, sort_keys=True).encode())
    replaced = {folder for part in info.files for folder in _REPLACED.get(part, (part,))}
    for part in sorted({*_PARTS, *info.guides.values()} - replaced):
        for path in sorted((info.folder / part).rglob("*")):
            if path.suffix in (".safetensors", ".json", ".txt") and path.is_file():
                name = path.relative_to(info.folder).as_posix()
                total.update(f"{name} {file_sha256(path)}\n".encode())
    for part in sorted(info.files):
        if part in _REPLACED or part in info.guides.values():
            total.update(f"{part} {file_sha256(info.path(part))}\n".encode())
    if info.scales != _SCALES:
        total.update(json.dumps(info.scales, sort_keys=True).encode())
    if info.shared_noise:
        total.update(f"shared noise {info.shared_noise}\n".encode())
    if info.timestep_shift != 1:
        total.update(f"timestep shift {info.timestep_shift:g}\n".encode())
    return total.hexdigest()


def part_hash(path: Path) -> str:
    """SHA-256 of a part that may be added: of its file, or of all that counts in its folder.

    Raises EngineError where it cannot be read.
    """
    if path.is_file():
        return file_sha256(path)
    files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".json"))
    names = "".join(f"{file.name} {file_sha256(file)}\n" for file in files)
    return hashlib.sha256(names.encode()).hexdigest()


def lora_files(folder: Path) -> list[Path]:
    """LoRAs for the checkpoint in ``folder``: in loras/, in its folder or beside it."""
    return [
        path
        for place in (folder / LORAS, folder.parent / LORAS)
        if place.is_dir()
        for path in sorted(place.iterdir())
        if path.suffix in (".safetensors", *_PICKLES[:-1])
    ]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, computed again only when its size or time of change has changed.

    Raises EngineError where it cannot be read.
    """
    try:
        stat = path.stat()
        return _file_hash(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise EngineError(f"{path} cannot be read ({error.strerror}). {_AGAIN}") from error


@lru_cache(maxsize=512)
def _file_hash(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A JSON object from ``path``; ``what`` says in the error sentence what the file is."""
    if not path.is_file():
        raise EngineError(f"{path} is missing; expected {what}. {_AGAIN}")
    try:
        stored = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EngineError(
            f"{path} cannot be read as JSON ({error}); expected {what}. {_AGAIN}"
        ) from error
    if not isinstance(stored, dict):
        raise EngineError(f"{path} is not a JSON object; expected {what}. {_AGAIN}")
    return stored


def check_part(folder: Path, what: str, class_name: str, config: str = "config.json") -> None:
    """Check a part that has weights, reading only headers.

    ``what`` is the part in words, ``class_name`` the class its config must name. Raises EngineError
    that names the file: missing, of another class, cut short, or a pickle.
    """
    stored = read_json(folder / config, f"the configuration of {what}")
    named = stored.get("_class_name") or ", ".join(stored.get("architectures") or ["nothing"])
    if named != class_name:
        raise EngineError(
            f"{folder / config} is the configuration of {named}; expected {class_name}, {what}. "
            "Put the right model into this folder."
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = [path.name for path in folder.iterdir() if path.suffix in _PICKLES]
        if pickles:
            raise EngineError(
                f"{folder / pickles[0]} is a pickle file, which can run programs when opened; "
                f"expected {what} as .safetensors. Convert it, or download that version."
            )
        raise EngineError(
            f"{folder} holds no weights; expected {what} in a .safetensors file. {_AGAIN}"
        )
    for path in weights:
        try:
            with safe_open(path, framework="pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise EngineError(
                f"{path} is damaged or cut short ({path.stat().st_size} bytes: {error}); "
                f"expected the weights of {what}. {_AGAIN}"
            ) from error
