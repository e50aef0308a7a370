"""What an artist, and a machine, do in the middle of a job: each time nothing is left behind.

Undo, File > Open, Reload Scripts, disabling the extension; the memory at its end, the disk full.
"""

import os
import resource
import signal
import subprocess
from pathlib import Path

import bpy

MODULE = "bl_ext.user_default.animatic"


def programs():
    """The engine's and the guides' processes of this Blender, with their parents."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
            parent = (place / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
        except OSError:
            continue  # it has just ended
        if any(word.startswith(os.environ["BLENDER_USER_RESOURCES"]) for word in words):
            found[int(place.name)] = int(parent)
    return found


def worker():
    """The process that computes: a child of the service."""
    found = programs()
    (process,) = [each for each, parent in found.items() if parent in found]
    return process


def memory_of(process):
    """Bytes of address space that a process has taken."""
    pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * resource.getpagesize()


def content():
    """What is in the file, and how the scene stands."""
    kinds = ("scenes", "objects", "meshes", "cameras", "materials", "actions", "images", "worlds")
    # a preview's picture is there for a while, and in no file
    names = {
        kind: sorted(each.name for each in getattr(bpy.data, kind) if not each.is_runtime_data)
        for kind in kinds
    }
    scene = bpy.context.scene
    render = {
        name: str(getattr(scene.render, name))
        for name, each in scene.render.bl_rna.properties.items()
        if each.type != "COLLECTION"
    }
    chosen = sorted(each.name for each in bpy.context.selected_objects)
    return (names, render, scene.name, scene.frame_current, chosen, scene.animatic.prompt)


def steps(driver):
    settings, scratch = driver.settings, Path(os.environ["TMPDIR"])
    bpy.ops.extensions.package_install_files(
        filepath=settings["zip"], repo="user_default", enable_on_install=True
    )
    yield 1.0

    def left_over():
        names = [each.name for each in scratch.iterdir()]
        return [name for name in names if not name.startswith("blender_") and ".blend" not in name]

    def opened(sampling_steps=150):
        bpy.ops.wm.open_mainfile(filepath=settings["blend"])
        yield 1.5
        preferences = bpy.context.preferences.addons[MODULE].preferences
        preferences.engine_python = settings["engine"]
        mine = bpy.context.scene.animatic
        mine.prompt, mine.model, mine.quality = "a street", settings["model"], "final"
        mine.use_steps, mine.steps = True, sampling_steps
        bpy.ops.ed.undo_push(message="asked")

    def samples():
        yield from driver.open_tab()
        before.append(content())
        yield from driver.push("bpy.ops.animatic.generate(")
        session = driver.module("ui.session")
        yield from driver.until(
            lambda: session.status().phase.startswith("Sampling") or not session.busy(),
            180,
            "sampling",
        )
        assert session.busy(), session.status()

    def ends(name, state, words=(), limit_s=600.0):
        session = driver.module("ui.session")
        yield from driver.until(lambda: not session.busy(), limit_s, name)
        status = session.status()
        said = " ".join([status.message, *status.notes])
        assert status.state.value == state, (name, status)
        assert all(word in said for word in words), (name, said)
        yield from nothing_left(name)
        yield 0.5
        yield from driver.picture(name)
        driver.tell(name=name, said=said)

    def nothing_left(name):
        yield from driver.until(lambda: not programs(), 20, f"{name}: its programs end")
        assert left_over() == [], (name, left_over())

    def unchanged(name):
        assert content() == before[-1], name
        assert bpy.ops.animatic.generate.poll(), "the next one can be started"

    before = []
    yield from opened(30)

    # the artist goes on working, and undoes it
    yield from samples()
    with driver.over(driver.region("WINDOW")):
        bpy.ops.mesh.primitive_cube_add("EXEC_DEFAULT", True)
    assert content() != before[-1]
    yield from driver.move(500, 500)
    yield from driver.press("Z", ctrl=True)
    assert content() == before[-1], "undone"
    yield from ends("undo", "done")
    assert len(bpy.data.scenes) == len(before[-1][0]["scenes"]) + 1, "the strip's scene"

    # another file: the take is kept, its strip does not land in a file that it was not made for
    yield from opened(30)
    yield from samples()
    bpy.ops.wm.read_homefile(use_factory_startup=False)
    yield 1.0
    yield from ends("file_open", "done", ["no longer open"])
    assert len(bpy.data.scenes) == 1
    folder = driver.module("ui.session").status().folder
    assert (folder / "video.mp4").is_file()

    # Reload Scripts
    yield from opened()
    yield from samples()
    bpy.ops.script.reload()
    yield 2.0
    assert not driver.module("ui.session").busy()
    yield from nothing_left("reload_scripts")
    unchanged("reload_scripts")
    yield from driver.picture("reload_scripts")
    driver.tell(name="reload_scripts")

    # disabled in the preferences
    yield from samples()
    bpy.ops.preferences.addon_disable(module=MODULE)
    yield 1.0
    yield from nothing_left("disabled")
    yield from driver.picture("disabled")
    bpy.ops.preferences.addon_enable(module=MODULE)
    yield 1.0
    unchanged("disabled")
    driver.tell(name="disabled")
    yield from opened()  # disabling forgets the preferences

    # no more memory is given to the engine: a real refusal of the system
    yield from samples()
    process = worker()
    resource.prlimit(process, resource.RLIMIT_AS, (memory_of(process),) * 2)
    yield from ends("out_of_memory", "failed", ["memory"])
    unchanged("out_of_memory")

    # what the system does when all memory is taken: it kills the process that has the most
    yield from samples()
    os.kill(worker(), signal.SIGKILL)
    yield from ends("killed_for_memory", "failed", ["memory ran out", "fewer frames"])
    unchanged("killed_for_memory")

    # the disk of the takes is full
    full = Path(driver.settings["folder"]) / "full"
    full.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(full)]
    if subprocess.run(mount, capture_output=True).returncode:
        return  # only the system's administrator may
    try:
        chosen = bpy.context.preferences.addons[MODULE].preferences
        chosen.output = f"{full}/{{file}}"
        yield from samples()
        spare = os.statvfs(full)
        (full / "of the artist's").write_bytes(bytes(spare.f_bavail * spare.f_bsize - 8192))
        yield from ends("disk_full", "failed", ["space"])
        unchanged("disk_full")
        assert [each.name for each in full.iterdir()] == ["of the artist's"]
    finally:
        subprocess.run(["umount", str(full)], check=True)
