"""Runs every test in the environment it belongs to, and prints one closing line for all.

    python3 tools/run_tests.py [--slow] [pytest arguments]

The engine's tests run where torch is, Blender's once for each bpy that this machine can have.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
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
    arguments = sys.argv[1:]
    slow = "--slow" in arguments
    arguments = [argument for argument in arguments if argument != "--slow"]
    if not slow:
        arguments += ["-m", "not slow"]
    suites = dict(SUITES)
    try:
        environments.find_python("3.13")
    except environments.SetupError:
        print("No Python 3.13 here: the tests with Blender 5.2 are left out.")
        del suites["host52"]
    names = list(suites)
    setup = [sys.executable, str(ROOT / "tools" / "environments.py"), *names]
    if subprocess.run(setup).returncode:
        return 1
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    failed_suites = []
    with tempfile.TemporaryDirectory() as scratch:
        surroundings = {**os.environ, "ANIMATIC_ZIP": str(build_extension(Path(scratch)))}
        for name, folders in suites.items():
            print(f"\n[{name}] {' '.join(folders)}", flush=True)
            report = Path(scratch) / f"{name}.xml"
            python = environments.VENVS / name / "bin" / "python"
            command = [str(python), "-m", "pytest", "-q", f"--junitxml={report}"]
            done = subprocess.run([*command, *folders, *arguments], cwd=ROOT, env=surroundings)
            if done.returncode:
                failed_suites.append(name)
            add_counts(report, counts)
    print(f"\n{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    if failed_suites:
        print(f"These suites failed: {', '.join(failed_suites)}")
    return 1 if failed_suites else 0


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
