"""Objects in a bucket of any S3-compatible store.

What is written is collected in a scratch file and sent at commit, in parts and with retries: an object shows as a whole
or not at all, and memory stays bounded. A process that is killed while it sends a large object leaves an unfinished
upload behind: give the bucket a lifecycle rule that aborts those.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

import obstore
from obstore.exceptions import BaseError, NotFoundError, PreconditionError
from obstore.store import S3Store

from fiapx.adapters.keys import checked
from fiapx.adapters.s3_signing import Signer
from fiapx.core.circuit import Circuit
from fiapx.core.errors import NoSpace, NotFound, Unavailable

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

_CHUNK: Final = 512 * 1024
_PART: Final = 8 * 1024 * 1024
_PROBE: Final = 1.5
"""Seconds that a health check waits."""
_FULL: Final = frozenset({28, 122})
"""ENOSPC, EDQUOT."""


class S3Storage:
    """The Storage port. Keys lie under `prefix`; `scratch` is a local folder for what is on its way.

    `timeout` is in seconds, for one try of a request. `public_endpoint` is where clients reach the store, if that is
    another address than ours. `circuit` opens when the store fails; what is complete and only has to be sent insists.
    """

    def __init__(
        self,
        bucket: str,
        *,
        access_key: str,
        secret_key: str,
        scratch: Path,
        endpoint: str | None = None,
        region: str = "us-east-1",
        prefix: str = "",
        timeout: float = 30,
        public_endpoint: str | None = None,
        circuit: Circuit | None = None,
    ) -> None:
        self._scratch = scratch
        self._circuit = circuit or Circuit("object store")
        self._prefix = prefix
        self._signer = Signer(
            bucket,
            access_key=access_key,
            secret_key=secret_key,
            endpoint=public_endpoint or endpoint,
            region=region,
        )
        options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
        plain = (endpoint or "").startswith("http://")
        options |= {"prefix": prefix or None, "region": region}
        options |= {"access_key_id": access_key, "secret_access_key": secret_key}
        self._store = S3Store(bucket, **options, **_patience(timeout, plain, tries=4))
        self._probe = S3Store(bucket, **options, **_patience(_PROBE, plain, tries=0))

    def create(self, key: str) -> S3Writer:
        """Raises Resting, so that nothing large is collected in vain."""
        self._circuit.require()
        with _translated():
            return S3Writer(self._store, checked(key), self._scratch, self._circuit)

    def open(self, key: str) -> BinaryIO:
        """A copy in the scratch folder that goes with its descriptor."""
        with _translated():
            file = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 - the caller closes it
            try:
                for chunk in self.read(key):
                    file.write(chunk)
                file.flush()
                file.seek(0)
            except BaseException:
                file.close()
                raise
            return file

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """All chunks are of the object that was there at first; one that is replaced meanwhile is NotFound."""
        with self._circuit.call(), _translated():
            meta = obstore.head(self._store, checked(key))
        stop = meta["size"] if end is None else min(end, meta["size"])
        return self._parts(key, meta["e_tag"], start, stop)

    def _parts(self, key: str, etag: str | None, start: int, stop: int) -> Iterator[bytes]:
        for begin in range(start, stop, _PART):
            with self._circuit.call(), _translated():
                span: GetOptions = {"range": (begin, min(begin + _PART, stop)), "if_match": etag}
                part = memoryview(obstore.get(self._store, key, options=span).bytes())
            for offset in range(0, len(part), _CHUNK):
                yield bytes(part[offset : offset + _CHUNK])

    def address(self, key: str, ttl: float, *, disposition: str, media_type: str) -> str | None:
        path = f"{self._prefix}/{checked(key)}".lstrip("/")
        return self._signer.url(path, ttl, disposition=disposition, media_type=media_type)

    def delete(self, key: str) -> None:
        with self._circuit.call(), _translated():
            obstore.delete(self._store, checked(key))

    def list(self, prefix: str) -> Iterator[tuple[str, float]]:
        folder = prefix.rpartition("/")[0]  # the store matches whole segments
        batches = obstore.list(self._store, folder or None)
        while batch := self._next(batches):
            for found in batch:
                if found["path"].startswith(prefix):
                    yield found["path"], max(0.0, (datetime.now(UTC) - found["last_modified"]).total_seconds())

    def _next(self, batches: Iterator[Sequence[ObjectMeta]]) -> Sequence[ObjectMeta]:
        with self._circuit.call(), _translated():
            return next(batches, ())

    def sweep(self, older_than: float) -> int:
        """Scratch files have no names: they are gone with whoever wrote them."""
        del older_than
        return 0

    def resting(self) -> float:
        return self._circuit.resting()

    def check(self) -> None:
        """Raises Unavailable for a bucket that cannot be listed."""
        with _translated():
            next(iter(obstore.list(self._probe, "videos", chunk_size=1)), None)


class S3Writer:
    """Collects an object; at commit it is sent."""

    def __init__(self, store: S3Store, key: str, scratch: Path, circuit: Circuit) -> None:
        self._store, self._key, self._circuit = store, key, circuit
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed when the block is left

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # what is left to flush on a full disk: `commit` has told of it, or nobody wants it
            self._file.close()

    def write(self, data: bytes | memoryview, /) -> int:
        with _translated():
            return self._file.write(data)

    def commit(self) -> None:
        with self._circuit.call(insist=True), _translated():
            self._file.seek(0)
            obstore.put(self._store, self._key, self._file, chunk_size=_PART, max_concurrency=2)


def _patience(timeout: float, plain: bool, tries: int) -> dict[str, Any]:
    return {
        "client_options": {"allow_http": plain, "timeout": timedelta(seconds=timeout)},
        "retry_config": {"max_retries": tries, "retry_timeout": timedelta(seconds=2 * timeout)},
    }


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (NotFoundError, FileNotFoundError):
        raise NotFound from None
    except PreconditionError:
        raise NotFound("The object was replaced while it was read.") from None
    except BaseError as error:
        raise Unavailable("The object store does not answer as it should.") from error
    except OSError as error:
        if error.errno in _FULL:
            raise NoSpace from error
        raise
