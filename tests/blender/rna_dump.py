"""Everything that a file's data-blocks are set to, flat, so that two files can be compared."""

from __future__ import annotations

import warnings
from pathlib import Path

import bpy

# Not settings: identities of this session, windows, and what follows from other values.
_SKIPPED = {"rna_type", "session_uid", "depsgraph", "original", "preview", "bl_rna", "users", "tag"}
_SKIPPED |= {"library_weak_reference", "asset_data", "is_evaluated", "is_runtime_data"}
_NO_SETTINGS = {"window_managers", "screens", "workspaces", "libraries", "all_ids"}
_DEPTH = 7


def dump_file() -> dict[str, object]:
    """Return the settings of every data-block of the open file, by block and property path."""
    found: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old names are read, too
        for prop in bpy.data.bl_rna.properties:
            if prop.type == "COLLECTION" and prop.identifier not in _NO_SETTINGS:
                for block in getattr(bpy.data, prop.identifier):
                    _dump(block, f"{prop.identifier}[{block.name_full}]", found, _DEPTH)
    return found


def _dump(struct: bpy.types.bpy_struct, path: str, found: dict[str, object], depth: int) -> None:
    if depth == 0:
        return
    for prop in struct.bl_rna.properties:
        name = prop.identifier
        if name in _SKIPPED:
            continue
        try:
            value = getattr(struct, name)
        except (AttributeError, RuntimeError):  # deprecated, or not readable in this state
            continue
        where = f"{path}.{name}"
        if isinstance(value, bpy.types.ID):
            found[where] = value.name_full
            if value.is_embedded_data:
                _dump(value, where, found, depth - 1)
        elif isinstance(value, bpy.types.bpy_struct):
            if prop.type == "POINTER" and name not in {"parent", "id_data", "node", "action_slot"}:
                _dump(value, where, found, depth - 1)
        elif prop.type == "COLLECTION":
            found[f"{where}#"] = len(value)
            for index, item in enumerate(value):
                if isinstance(item, bpy.types.ID):
                    found[f"{where}[{index}]"] = item.name_full
                else:
                    _dump(item, f"{where}[{index}]", found, depth - 1)
        elif getattr(prop, "subtype", "") in {"FILEPATH", "DIRPATH"} and isinstance(value, str):
            found[where] = str(Path(bpy.path.abspath(value)).resolve()) if value else ""
        elif getattr(prop, "is_array", False):
            found[where] = repr(
                [list(item) if hasattr(item, "__len__") else item for item in value]
            )
        else:
            found[where] = repr(value)
