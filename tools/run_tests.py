"""Runs every test in the environment it belongs to, and prints one closing line for all.

    python3 tools/run_tests.py [--slow] [--torch BUILD] [pytest arguments]

The engine's tests run where torch is, Blender's once for each bpy that this machine can have: two
of these suites at a time, since each keeps hardly more than one core busy.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import environments

ROOT = environments.ROOT
HOST_TESTS = ["tests/unit", "tests/blender", "tests/ui"]
SUITES = {
    "engine": ["tests/unit", "tests/engine", "tests/training", "tests/server"],
    "host": [*HOST_TESTS, "tests/cli"],
    "host45": HOST_TESTS,
    "host52": HOST_TESTS,
}


def main() -> int:
    """Set up and run; return 0 when every suite passed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slow", action="store_true", help="the slow tests too")
    parser.add_argument("--torch", default="auto", help="as tools/environments.py takes it")
    options, arguments = parser.parse_known_args()
    if not options.slow:
        arguments += ["-m", "not slow"]
    suites = dict(SUITES)
    try:
        environments.find_python("3.13")
    except environments.SetupError:
        print("No Python 3.13 here: the tests with Blender 5.2 are left out.")
        del suites["host52"]
    names = list(suites)
    setup = [sys.executable, str(ROOT / "tools" / "environments.py"), "--torch", options.torch]
    if subprocess.run([*setup, *names]).returncode:
        return 1
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with tempfile.TemporaryDirectory() as scratch:
        surroundings = {**os.environ, "ANIMATIC_ZIP": str(build_extension(Path(scratch)))}
        run = partial(run_suite, Path(scratch), arguments, surroundings)
        with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
            passed = dict(zip(suites, pool.map(run, suites, suites.values()), strict=True))
        for name in suites:
            add_counts(Path(scratch) / f"{name}.xml", counts)
    print(f"\n{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    if failed := [name for name in suites if not passed[name]]:
        print(f"These suites failed: {', '.join(failed)}")
    return 1 if failed else 0


def run_suite(
    scratch: Path,
    arguments: list[str],
    surroundings: Mapping[str, str],
    name: str,
    folders: list[str],
) -> bool:
    """Run one suite; its lines are printed under its name as they come, and its report is written
    to ``scratch``. Returns whether all passed.
    """
    print(f"[{name}] {' '.join(folders)}", flush=True)
    command = [str(environments.VENVS / name / "bin" / "python"), "-u", "-m", "pytest", "-q"]
    # What failed last is another thing in each environment.
    command += [f"--junitxml={scratch / name}.xml", "-o", f"cache_dir=.pytest_cache/{name}"]
    with subprocess.Popen(
        [*command, *folders, *arguments],
        cwd=ROOT,
        env=surroundings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(f"[{name}] {line}", end="", flush=True)
    return running.returncode == 0


def build_extension(folder: Path) -> Path:
    """Build the zip that every Blender's tests install; returns it. Exits where that fails."""
    python = environments.VENVS / "host" / "bin" / "python"
    tool = ROOT / "tools" / "build_extension.py"
    if subprocess.run([str(python), str(tool), "--output-dir", str(folder)]).returncode:
        sys.exit(1)
    (made,) = folder.glob("*.zip")
    return made


def add_counts(report: Path, counts: dict[str, int]) -> None:
    """Add the figures of one pytest report to ``counts``; a crashed suite left no report."""
    if not report.is_file():
        counts["failed"] += 1
        return
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        tests, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        counts["passed"] += tests - skipped - failed
        counts["failed"] += failed
        counts["skipped"] += skipped


if __name__ == "__main__":
    sys.exit(main())
