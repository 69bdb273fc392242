"""PostgreSQL as compose/ tunes it against its defaults, on private servers and a disk that is synced for real.

    python -m benchmarks.database [--rounds 3] [--seconds 20]

PostgreSQL's own pgbench: short transactions that write (its TPC-B), with eight clients. Prints medians of transactions
a second and of milliseconds each.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from scripts.servers.postgres import PrivatePostgres
from scripts.servers.process import program

_PROGRAMS: Final = tuple(f"/usr/lib/postgresql/{version}/bin/pgbench" for version in (15, 16, 17, 18))
_SCALE: Final = 50
"""Times 100,000 accounts: 750 MB, so that the defaults' 128 MB of buffers do not hold them."""


class Untuned(PrivatePostgres):
    """With PostgreSQL's own configuration."""

    configuration = None


def measure(server: PrivatePostgres, seconds: int) -> tuple[float, float]:
    """Transactions a second, and milliseconds each."""
    found = _pgbench(server, "--client", "8", "--jobs", "2", "--time", str(seconds), "--no-vacuum")
    tps, latency = re.search(r"tps = ([\d.]+)", found), re.search(r"latency average = ([\d.]+)", found)
    assert tps is not None
    assert latency is not None
    return float(tps[1]), float(latency[1])


def _pgbench(server: PrivatePostgres, *arguments: str) -> str:
    command = [str(program("postgresql", *_PROGRAMS)), *arguments, "postgres"]
    host = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres", "PGPASSWORD": "postgres"}
    return subprocess.run(command, env=os.environ | host, check=True, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    ways = {"defaults": Untuned, "as compose/ tunes it": PrivatePostgres}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for kind in ways.values():
            with kind(Path(folder) / kind.__name__, fsync=True) as server:
                _pgbench(server, "--initialize", "--quiet", "--scale", str(_SCALE))
        for _ in range(options.rounds):
            for name, kind in ways.items():
                with kind(Path(folder) / kind.__name__, fsync=True) as server:
                    found[name].append(measure(server, options.seconds))
    print(f"{'':24}{'tps':>8}{'ms':>8}")
    for name, each in found.items():
        tps, latency = (statistics.median(column) for column in zip(*each, strict=True))
        print(f"{name:24}{tps:>8.0f}{latency:>8.2f}")


if __name__ == "__main__":
    main()
