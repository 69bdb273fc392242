"""Decoder children that are forked instead of started: the same work, and no child outlives its welcome."""

from __future__ import annotations

import io
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from fiapx.core.errors import DecoderFailed
from fiapx.core.options import extract_options
from fiapx.media import nursery as module
from fiapx.media.extract import extract
from fiapx.media.model import Source
from fiapx.media.nursery import Forked, Nursery
from fiapx.media.process import end
from fiapx.media.spare import Spare
from tests.media.clips import X264, Clip
from tests.media.extracting import run
from tests.processing_kit import eventually

CLIP = Clip("nursery.mp4", (*X264, "-g", "10"), frames=50)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    nursery.start()
    eventually(lambda: nursery._socket is not None)
    yield nursery
    nursery.close()


def extracted(nursery: Nursery, path: Path) -> bytes:
    output = io.BytesIO()
    with path.open("rb", buffering=0) as file, Spare(nursery.child) as spare:
        extract(Source(path.name, file), extract_options(fps="5"), output, spare=spare)
    return output.getvalue()


def idle_child(nursery: Nursery) -> Forked:
    """One that waits for a video."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = nursery.child(theirs.fileno())
        ours.detach()
    return child


def forks(nursery: Nursery) -> bool:
    try:
        end(idle_child(nursery))
    except OSError:
        return False
    return True


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_children_do_the_same_work(nursery: Nursery, clips: Path) -> None:
    path = CLIP.make(clips)
    alone = run(path, fps="5").data
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: extracted(nursery, path), range(8))) == {alone}


def test_a_server_with_a_thousand_connections_has_decoders(nursery: Nursery, clips: Path) -> None:
    path = CLIP.make(clips)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        with ExitStack() as connections:
            for _ in range(1100):
                connections.enter_context(Path(os.devnull).open())
            assert extracted(nursery, path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_child_has_nothing_open_but_its_own(nursery: Nursery) -> None:
    others = [idle_child(nursery) for _ in range(2)]
    child = idle_child(nursery)
    eventually(lambda: {each.name for each in Path(f"/proc/{child.pid}/fd").iterdir()} == {"0", "1", "2"})
    assert os.getpgid(child.pid) == child.pid
    for each in (*others, child):
        end(each)


def test_it_says_how_a_child_ended(nursery: Nursery) -> None:
    child = idle_child(nursery)
    assert child.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait(10) == child.poll() == -signal.SIGTERM
    end(child)


def test_who_looks_does_not_wait_for_who_waits(nursery: Nursery) -> None:
    """Else nobody could end a child whose end somebody waits for."""
    child = idle_child(nursery)
    waiting = threading.Thread(target=child.wait)
    waiting.start()
    eventually(lambda: waiting.is_alive() and child._lock.locked())
    assert child.poll() is None
    os.killpg(child.pid, signal.SIGKILL)
    waiting.join(10)
    assert child.poll() == -signal.SIGKILL
    end(child)


def test_after_a_crash_another_nursery_takes_over(nursery: Nursery, clips: Path) -> None:
    child, bystander = idle_child(nursery), idle_child(nursery)
    first = parent(child.pid)
    os.kill(child.pid, signal.SIGSEGV)
    assert child.wait(10) == -signal.SIGSEGV
    end(child)
    assert bystander.poll() is None
    eventually(lambda: nursery._socket is not None)
    assert extracted(nursery, CLIP.make(clips))
    another = idle_child(nursery)
    assert parent(another.pid) != first
    end(another)
    end(bystander)
    eventually(lambda: gone(first))


def test_so_many_children_and_another_takes_over(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    children = [idle_child(nursery) for _ in range(2)]
    eventually(lambda: nursery._socket is not None)
    children.append(idle_child(nursery))
    parents = [parent(child.pid) for child in children]
    assert parents[0] == parents[1] != parents[2]
    for child in children:
        end(child)


def test_a_nursery_that_is_killed_takes_its_children_along(nursery: Nursery) -> None:
    child = idle_child(nursery)
    os.kill(parent(child.pid), signal.SIGKILL)
    assert child.wait(10) == -signal.SIGKILL
    end(child)
    eventually(lambda: gone(child.pid))
    eventually(lambda: forks(nursery))


def test_without_a_nursery_there_is_an_error_at_once(nursery: Nursery) -> None:
    nursery.close()
    with pytest.raises(OSError, match="not there"):
        idle_child(nursery)


HOLDER = """
import socket, sys, time
from fiapx.media.nursery import Nursery
nursery = Nursery()
nursery.start()
while nursery._socket is None:
    time.sleep(0.01)
ours, theirs = socket.socketpair()
print(nursery.child(theirs.fileno()).pid, flush=True)
time.sleep(60)
"""


def test_nothing_outlives_the_process_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        forked_by = parent(child)
        holder.kill()
    eventually(lambda: gone(child) and gone(forked_by))


def test_a_child_that_dies_is_told_like_any_other(nursery: Nursery, clips: Path) -> None:
    path = Clip("longer.mp4", (*X264, "-g", "10"), frames=2000).make(clips)
    spare = Spare(nursery.child)
    assert spare._child is not None
    pid = spare._child[0].pid
    timer = threading.Timer(0.05, os.kill, (pid, signal.SIGKILL))
    timer.start()
    with path.open("rb", buffering=0) as file, spare, pytest.raises(DecoderFailed, match="by signal 9"):
        extract(Source(path.name, file), extract_options(fps="25", format="png"), io.BytesIO(), spare=spare, jobs=1)
    timer.join()


def test_nothing_stays_open_where_there_is_no_child_to_be_had() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="not there"):
        Spare(Nursery().child)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
