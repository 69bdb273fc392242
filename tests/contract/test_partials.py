"""The Partials port, for every adapter."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fiapx.adapters.direct import DirectWriter
from fiapx.adapters.partials_disk import DiskPartials
from fiapx.adapters.partials_objects import ObjectPartials
from fiapx.adapters.storage_disk import DiskStorage
from fiapx.core.errors import NoSpace, NotFound
from fiapx.core.ports import InUse, Partials, PartialWriter, Storage
from tests.processing_kit import eventually
from tests.s3 import s3_storage

ID = "6a3d8a20-8b1f-4b0e-9f4e-0c4a5a1c5a55"
KEY = f"videos/{ID}"
PIECE = 1024**2
PWRITE = os.pwrite
LARGE = 20 * PIECE


@dataclass
class Place:
    partials: Partials
    storage: Storage

    def content(self) -> bytes:
        return b"".join(self.storage.read(KEY))

    def add(self, offset: int, epoch: int, data: bytes) -> int:
        with self.partials.append(ID, offset, epoch) as writer:
            writer.write(data)
            return writer.sync()


def disk(folder: Path) -> Place:
    return Place(DiskPartials(folder), DiskStorage(folder))


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return disk(tmp_path / "objects")
    storage = s3_storage(request.getfixturevalue("s3_server"), tmp_path / "scratch")
    return Place(ObjectPartials(storage), storage)


def test_pieces_become_one_object(place: Place) -> None:
    content = os.urandom(300_000)
    at = 0
    for epoch, end in enumerate((1, 1, 100_000, 300_000), 1):
        at = place.add(at, epoch, content[at:end])
        assert at == end
    assert [upload_id for upload_id, _ in place.partials.pending()] == [ID]
    assert place.partials.assemble(ID, KEY, 300_000) in (None, hashlib.sha256(content).hexdigest())
    assert place.content() == content


def test_assembling_is_safe_to_repeat(place: Place) -> None:
    place.add(0, 1, b"content")
    place.partials.assemble(ID, KEY, 7)
    place.partials.assemble(ID, KEY, 7)
    place.partials.discard(ID)
    place.partials.assemble(ID, KEY, 7)
    assert place.content() == b"content"
    assert list(place.partials.pending()) == []


def test_what_is_not_there_cannot_be_assembled_nor_gone_on_with(place: Place) -> None:
    with pytest.raises(NotFound):
        place.partials.assemble(ID, KEY, 7)
    place.add(0, 1, b"con")
    with pytest.raises(NotFound):
        place.partials.assemble(ID, KEY, 7)
    with pytest.raises(NotFound):
        place.add(7, 2, b"x")
    place.add(3, 3, b"tent")
    place.partials.assemble(ID, KEY, 7)
    assert place.content() == b"content"


def test_what_lies_beyond_the_offset_is_forgotten(place: Place) -> None:
    with place.partials.append(ID, 0, 1) as writer:
        writer.write(b"recorded")
        assert writer.sync() == 8
        writer.write(b", and some that was synced but not recorded")
        writer.sync()
    place.add(8, 2, b" again")
    place.partials.assemble(ID, KEY, 14)
    assert place.content() == b"recorded again"


def test_a_writer_in_several_steps_may_be_cut_anywhere(place: Place) -> None:
    with place.partials.append(ID, 0, 1) as writer:
        writer.write(b"one ")
        assert writer.sync() == 4
        writer.write(memoryview(b"two "))
        assert writer.sync() == 8
        assert writer.sync() == 8
        writer.write(b"never synced")
    place.add(8, 2, b"three")
    place.partials.assemble(ID, KEY, 13)
    assert place.content() == b"one two three"


@pytest.mark.parametrize("start", [0, 1, 5000])
def test_large_pieces_from_any_offset(place: Place, start: int) -> None:
    """That may be written directly, and that may not."""
    content = os.urandom(LARGE + 4097)
    place.add(0, 1, content[:start])
    with place.partials.append(ID, start, 2) as writer, mmap(-1, PIECE) as memory:
        for at in range(start, len(content), PIECE):
            piece = content[at : at + PIECE]
            memory[: len(piece)] = piece
            with memoryview(memory) as whole, whole[: len(piece)] as view:
                writer.write(view[: len(view) // 2])
                writer.write(view[len(view) // 2 :])
        assert writer.sync() == len(content)
    place.partials.assemble(ID, KEY, len(content))
    assert place.content() == content


@pytest.mark.skipif(not shutil.which("fincore"), reason="fincore (util-linux) is not installed")
def test_a_large_file_does_not_push_others_out_of_memory(tmp_path: Path) -> None:
    place = disk(tmp_path)
    _require_direct_writing(tmp_path / "probe")
    with place.partials.append(ID, 0, 1) as writer, mmap(-1, PIECE) as memory:
        for _ in range(LARGE // PIECE):
            writer.write(memoryview(memory))
        assert writer.sync() == LARGE
    place.partials.assemble(ID, KEY, LARGE)
    assert _cached(tmp_path / KEY) <= 16 * 1024**2, "its beginning, which is read first"


def _cached(path: Path) -> int:
    """Bytes of a file that are in memory."""
    fincore = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]
    return int(subprocess.run(fincore, check=True, capture_output=True, text=True).stdout)


def _require_direct_writing(path: Path) -> None:
    try:
        fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_DIRECT)
        with mmap(-1, 4096) as block:
            os.write(fd, block)
        os.close(fd)
    except (AttributeError, OSError) as error:
        pytest.skip(f"the page cache cannot be passed by here: {error}")
    if _cached(path):
        pytest.skip("what is written directly is in memory all the same here, as on tmpfs")


def _short(fd: int, data: memoryview, position: int) -> int:
    return PWRITE(fd, data[:512], position)


def _refuse(*_: object) -> int:
    raise OSError(errno.EINVAL, "no direct writing")


@pytest.mark.parametrize("harm", [[_short], [_refuse], [_short, _refuse]], ids=["short", "refused", "both"])
@pytest.mark.parametrize("odd", [0, 1], ids=["page", "odd address"])
def test_direct_writing_gives_way(
    harm: list[Callable[..., int]], odd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To what a system may do, and to memory that it cannot take."""
    content = os.urandom(2 * PIECE + 100)
    faults, flags = list(harm), []

    def pwrite(fd: int, data: memoryview, position: int) -> int:
        flags.append(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)
        return faults.pop(0)(fd, data, position) if faults else PWRITE(fd, data, position)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with (tmp_path / "file").open("w+b", buffering=0) as file, mmap(-1, 3 * PIECE) as memory:
        memory[odd : odd + len(content)] = content
        with memoryview(memory) as whole, whole[odd : odd + len(content)] as view:
            DirectWriter(file.fileno()).write(view, LARGE)
        assert not fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT
        file.seek(LARGE)
        assert file.read() == content
    assert flags[0], "it was tried"


def test_what_could_not_be_synced_stays_unsynced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux tells of lost pages once; a later call would succeed."""
    failures = [OSError(errno.ENOSPC, "full")]

    def fdatasync(fd: int) -> None:
        if failures:
            raise failures.pop()
        os.fsync(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    place = disk(tmp_path)
    with place.partials.append(ID, 0, 1) as writer:
        writer.write(b"lost")
        for _ in range(2):
            with pytest.raises(NoSpace):
                writer.sync()
    assert place.add(0, 2, b"again") == 5


def test_what_could_not_be_stored_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = DiskStorage(tmp_path)
    place = Place(ObjectPartials(storage), storage)
    with place.partials.append(ID, 0, 1) as writer:
        writer.write(b"one ")
        with monkeypatch.context() as broken:
            broken.setattr(storage, "create", _full)
            with pytest.raises(NoSpace):
                writer.sync()
        writer.write(b"two")
        assert writer.sync() == 7
    place.partials.assemble(ID, KEY, 7)
    assert place.content() == b"one two"


def _full(_key: str) -> NoReturn:
    raise NoSpace


def test_an_older_writer_writes_in_vain(place: Place) -> None:
    place.add(0, 1, b"good ")
    with place.partials.append(ID, 5, 2) as old:
        old.write(b"bad")
        with place.partials.append(ID, 5, 3, force=True) as new:
            old.write(b" and worse")
            old.sync()
            new.write(b"bytes")
            assert new.sync() == 10
            old.write(b" for ever")
            old.sync()
    place.add(10, 4, b"!")
    place.partials.assemble(ID, KEY, 11)
    assert place.content() == b"good bytes!"


def test_an_older_writer_that_comes_late_takes_nothing(place: Place) -> None:
    place.add(0, 1, b"good ")
    place.add(5, 3, b"bytes")
    with suppress(InUse), place.partials.append(ID, 5, 2, force=True) as late:
        late.write(b"bad")
        late.sync()
    place.add(10, 4, b"!")
    place.partials.assemble(ID, KEY, 11)
    assert place.content() == b"good bytes!"


def test_discarding_takes_everything_and_repeats_are_harmless(place: Place, tmp_path: Path) -> None:
    place.add(0, 1, b"x")
    place.add(1, 2, b"y")
    place.partials.discard(ID)
    place.partials.discard(ID)
    assert list(place.partials.pending()) == list(place.storage.list("")) == []
    with pytest.raises(NotFound):
        place.add(1, 3, b"z")


def test_the_age_is_that_of_the_last_write(place: Place) -> None:
    place.add(0, 1, b"x")
    ((_, age),) = place.partials.pending()
    assert 0 <= age < 60


# --- only disks ---------------------------------------------------------------------------------


def test_a_living_writer_is_in_use(tmp_path: Path) -> None:
    place = disk(tmp_path)
    with place.partials.append(ID, 0, 1) as writer:
        writer.write(b"x")
        with pytest.raises(InUse):
            place.partials.append(ID, 0, 2)
    with place.partials.append(ID, 0, 3):
        pass


def test_finishing_copies_nothing(tmp_path: Path) -> None:
    place = disk(tmp_path)
    place.add(0, 1, b"content")
    (path,) = (tmp_path / "uploads" / ID).iterdir()
    inode = path.stat().st_ino
    place.partials.assemble(ID, KEY, 7)
    assert (tmp_path / KEY).stat().st_ino == inode


def test_a_full_disk_is_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = disk(tmp_path)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with place.partials.append(ID, 0, 1) as writer:
        writer.write(b"some")
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(NoSpace):
            writer.write(b"more")
        assert writer.sync() == 4
    with DiskPartials(tmp_path, reserve=1 << 62).append(ID, 4, 2) as writer, pytest.raises(NoSpace):
        writer.write(b"x")


_HOLDER = """
import sys, time
from pathlib import Path
from typing import NoReturn
from fiapx.adapters.direct import DirectWriter
from fiapx.adapters.partials_disk import DiskPartials
writer = DiskPartials(Path(sys.argv[1])).append(sys.argv[2], 0, 1)
writer.write(b"a" * 1000)
print(writer.sync(), flush=True)
while True:
    time.sleep(0.001)
    writer.write(b"a")
"""


def test_a_process_that_hangs_is_left_behind_and_one_that_dies_lets_go(tmp_path: Path) -> None:
    """Its lock outlives SIGSTOP, and nothing outlives SIGKILL."""
    place = disk(tmp_path)
    command = [sys.executable, "-c", _HOLDER, str(tmp_path), ID]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"1000\n"
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(InUse):
            place.partials.append(ID, 1000, 2)
        with place.partials.append(ID, 1000, 3, force=True) as writer:
            writer.write(b"b" * 1000)
            writer.sync()
        holder.send_signal(signal.SIGCONT)
        with place.partials.append(ID, 2000, 4) as writer:
            writer.write(b"c")
            writer.sync()
        holder.kill()
    place.partials.assemble(ID, KEY, 2001)
    assert place.content() == b"a" * 1000 + b"b" * 1000 + b"c"
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
    eventually(lambda: _free(next((tmp_path / "uploads" / ID).iterdir())))
    place.add(1000, 2, b"d")


def _free(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class Machine(RuleBasedStateMachine):
    """Writers of ever newer epochs that come, write, sync, hang and go in any order; what was recorded stays."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.places = [self.make(Path(self._folder.name)) for _ in range(2)]
        self.recorded = b""
        self.epoch = 0
        self.written = b""
        self.writers: list[PartialWriter] = []
        self.newest: PartialWriter | None = None
        self.late: list[tuple[int, int]] = []
        """Offsets and epochs of those who have claimed the upload, and have not opened it yet."""

    @staticmethod
    def make(folder: Path) -> Place:
        return disk(folder)

    def teardown(self) -> None:
        for writer in self.writers:
            writer.__exit__(None, None, None)
        if self.recorded:
            place = self.places[0]
            place.partials.append(ID, len(self.recorded), self.epoch + 1, force=True).__exit__(None, None, None)
            place.partials.assemble(ID, KEY, len(self.recorded))
            assert place.content() == self.recorded
        self._folder.cleanup()

    @rule(instance=st.integers(0, 1))
    def claim(self, instance: int) -> None:
        self.epoch += 1
        place = self.places[instance]
        writer = place.partials.append(ID, len(self.recorded), self.epoch, force=True)
        self.writers.append(writer)
        self.newest, self.written = writer, b""

    @rule()
    def claim_and_dawdle(self) -> None:
        self.epoch += 1
        self.late.append((len(self.recorded), self.epoch))
        self.newest = None

    @precondition(lambda self: self.late)
    @rule(instance=st.integers(0, 1), force=st.booleans())
    def come_late(self, instance: int, force: bool) -> None:
        offset, epoch = self.late.pop(0)
        if epoch < self.epoch:
            with suppress(InUse, NotFound):
                self.writers.append(self.places[instance].partials.append(ID, offset, epoch, force=force))

    @precondition(lambda self: self.writers)
    @rule(data=st.data(), content=st.binary(min_size=1, max_size=50))
    def write(self, data: st.DataObject, content: bytes) -> None:
        writer = data.draw(st.sampled_from(self.writers))
        writer.write(content)
        if writer is self.newest:
            self.written += content

    @precondition(lambda self: self.writers)
    @rule(data=st.data())
    def sync(self, data: st.DataObject) -> None:
        writer = data.draw(st.sampled_from(self.writers))
        safe = writer.sync()
        if writer is self.newest:  # an older one may sync what it likes: the database does not take it
            assert safe == len(self.recorded) + len(self.written)
            self.recorded += self.written
            self.written = b""

    @precondition(lambda self: self.writers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        writer = data.draw(st.sampled_from(self.writers))
        self.writers.remove(writer)
        writer.__exit__(None, None, None)
        if writer is self.newest:
            self.newest, self.written = None, b""

    @invariant()
    def it_is_pending(self) -> None:
        pending = [upload_id for upload_id, _ in self.places[1].partials.pending()]
        assert pending == ([ID] if self.recorded else pending)


class ObjectMachine(Machine):
    @staticmethod
    def make(folder: Path) -> Place:
        storage = DiskStorage(folder)
        return Place(ObjectPartials(storage), storage)


_SETTINGS = settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
TestDiskWriters = Machine.TestCase
TestDiskWriters.settings = _SETTINGS
TestObjectWriters = ObjectMachine.TestCase
TestObjectWriters.settings = _SETTINGS


def test_tells_whether_bytes_are_there(place: Place) -> None:
    assert place.partials.holds(ID, 0)
    assert not place.partials.holds(ID, 1)
    place.add(0, 1, b"abc")
    place.add(3, 2, b"def")
    assert [place.partials.holds(ID, size) for size in (0, 3, 6, 7)] == [True, True, True, False]
    place.partials.discard(ID)
    assert not place.partials.holds(ID, 3)
