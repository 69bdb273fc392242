"""An S3-compatible store of the tests' own: moto's server, as a process."""

from __future__ import annotations

import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from fiapx.adapters.storage_s3 import S3Storage
from scripts.servers.process import PrivateProcess, free_port

KEY = "testing"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its URL."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    with PrivateProcess(command, tmp_path_factory.mktemp("s3")) as process:
        process.wait_until(lambda: _answers(port))
        yield f"http://127.0.0.1:{port}"


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def s3_bucket(url: str) -> str:
    """The name of a new bucket."""
    bucket = f"b{uuid.uuid4().hex}"
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=KEY, aws_secret_access_key=KEY, region_name="us-east-1"
    )
    client.create_bucket(Bucket=bucket)
    client.close()
    return bucket


def s3_storage(url: str, scratch: Path, *, through: str | None = None, **options: Any) -> S3Storage:
    """On a new bucket, which may be reached `through` another address."""
    scratch.mkdir(exist_ok=True)
    options |= {"access_key": KEY, "secret_key": KEY, "scratch": scratch, "prefix": "some/where"}
    return S3Storage(s3_bucket(url), endpoint=through or url, **options)
