"""``python -m fiapx.media.launch PARENT CPU_SECONDS PROGRAM ARGUMENT...``: cap resources, then become PROGRAM.

A process of its own instead of `preexec_fn`, which is unsafe where the parent has threads.
"""

from __future__ import annotations

import os
import sys

from fiapx.media import sandbox

if __name__ == "__main__":
    parent, cpu_seconds, program, *arguments = sys.argv[1:]
    sandbox.die_with_parent(int(parent))
    sandbox.limit_resources(float(cpu_seconds))
    os.execv(program, [program, *arguments])  # noqa: S606 - argv list, no shell
