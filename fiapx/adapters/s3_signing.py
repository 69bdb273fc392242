"""URLs that give away one object of a bucket for a while."""

from __future__ import annotations

from functools import cached_property
from typing import Any


class Signer:
    """Signs for the address by which clients reach the store: `endpoint`, or AWS itself. Asks nobody."""

    def __init__(self, bucket: str, *, access_key: str, secret_key: str, endpoint: str | None, region: str) -> None:
        self._bucket = bucket
        self._options = {
            "aws_access_key_id": access_key,
            "aws_secret_access_key": secret_key,
            "endpoint_url": endpoint,
            "region_name": region,
        }

    def url(self, path: str, ttl: float, *, disposition: str, media_type: str) -> str:
        """The URL for reading the object at `path` for `ttl` seconds, which answers with these headers."""
        answer = {"ResponseContentDisposition": disposition, "ResponseContentType": media_type}
        what = {"Bucket": self._bucket, "Key": path, **answer}
        url: str = self._client.generate_presigned_url("get_object", what, ExpiresIn=int(ttl))
        return url

    @cached_property
    def _client(self) -> Any:
        from botocore.config import Config  # takes a moment, which only those who sign spend
        from botocore.session import Session

        style = "path" if self._options["endpoint_url"] else "virtual"
        config = Config(signature_version="s3v4", s3={"addressing_style": style})
        return Session().create_client("s3", config=config, **self._options)
