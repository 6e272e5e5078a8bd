"""What is in Slurm's queue, where there is one."""

import os
import shutil
import subprocess
from pathlib import Path


def queued() -> set[str] | None:
    """Numbers of a person's jobs that wait or run, as 12 or, in an array, 12_0. None where nobody can tell just now."""
    if shutil.which("squeue") is None:
        return set()
    command = ["squeue", "--all", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"]
    listed = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return None if listed.returncode else set(listed.stdout.split())


def queued_of(sweep: Path) -> list[str]:
    """Those of one sweep: submitit names a folder after each that it has submitted."""
    submitted = {path.name for path in (sweep / ".submitit").glob("*")}
    return sorted(submitted & (queued() or set())) if submitted else []
