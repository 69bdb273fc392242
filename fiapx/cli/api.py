"""The server, as the commands see it: requests that refresh their token, try again and speak our errors."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import httpx
import stamina

import fiapx
from fiapx.cli.elsewhere import follow, sent_elsewhere
from fiapx.cli.problems import LOGIN_HINT, Unreachable, raise_for_problem, transport_errors
from fiapx.cli.profile import Profile, ProfileStore, check_secure, server_url
from fiapx.core.errors import (
    AuthRequired,
    FiapxError,
    InvalidCredentials,
    InvalidToken,
    RateLimited,
    Unavailable,
    UsageError,
)

PREFIX = "/api/v1"
_TIMEOUT = httpx.Timeout(60, connect=10)
LONG = httpx.Timeout(300, connect=10)
"""After the last byte the server brings a big upload to the disk."""
_ATTEMPTS = 4
_ATTEMPTS_TO_LEARN = 12
"""Half a minute: whoever gave up on what may have been done, and asked anew, would have it done twice."""
_LONGEST_PAUSE = 30.0
"""Seconds of Retry-After that we sit out; a longer one is told to the user."""


class Api:
    """One server and one account. `token` wins over the profile and is never refreshed.

    The profile's tokens go to the server they came from, and to no other.
    """

    def __init__(self, server: str, profiles: ProfileStore, *, token: str | None, environ: Mapping[str, str]) -> None:
        self.server = server
        self.profiles = profiles
        self._environ = environ
        self._token = token
        try:
            host = httpx.URL(server).host
        except httpx.InvalidURL:
            raise UsageError("the server's address is not a URL") from None
        self._trust_env = not (host in {"localhost", "::1"} or host.startswith("127."))
        self._http = httpx.Client(
            base_url=server + PREFIX,
            timeout=_TIMEOUT,
            headers={"User-Agent": f"fiapx/{fiapx.__version__}"},
            trust_env=self._trust_env,  # a proxy cannot know this machine's 127.0.0.1
        )

    @classmethod
    def open(cls, server: str | None, environ: Mapping[str, str]) -> Api:
        """The server that flags, environment and profile name."""
        stamina.instrumentation.set_on_retry_hooks([])  # its default one logs to standard output
        profiles = ProfileStore.find(environ)
        url = server_url(server, environ, profiles.load())
        return cls(url, profiles, token=environ.get("FIAPX_TOKEN") or None, environ=environ)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        if "_store" in vars(self):
            self._store.close()

    def check_secure(self) -> None:
        """Raises UsageError, before anybody types a password that would cross a network in the clear."""
        check_secure(self.server, self._environ)

    # --- requests -----------------------------------------------------------------------------

    def get(self, path: str, *, anonymous: bool = False, **params: Any) -> Any:
        """The JSON at a path."""
        return self._json(self._persist(lambda: self.once("GET", path, anonymous=anonymous, params=params)))

    def delete(self, path: str) -> None:
        self._persist(lambda: self.once("DELETE", path))

    def post(self, path: str, json: Any = None, *, anonymous: bool = False) -> Any:
        """The JSON answer, None if there is none. Not tried again, since it may have been done."""
        return self._json(self.once("POST", path, json=json, anonymous=anonymous))

    def patch(self, path: str, json: Any) -> Any:
        """The JSON answer. Not tried again, as above."""
        return self._json(self.once("PATCH", path, json=json))

    def create(self, path: str, **request: Any) -> Any:
        """POST what can safely be tried again, since an Idempotency-Key tells the server that it is the same."""
        headers = {"Idempotency-Key": str(uuid.uuid4()), **request.pop("headers", {})}

        def send() -> httpx.Response:
            return self.once("POST", path, headers=headers, timeout=LONG, **request)

        return self._json(self._persist(send, learn=True))

    @contextmanager
    def stream(self, path: str, headers: dict[str, str] | None = None, timeout: float = 60) -> Iterator[httpx.Response]:
        """A response whose body flows, maybe from an object store that the server sends us to. Failures to get it are
        tried again, failures in the middle are the caller's."""
        extra: dict[str, Any] = {"headers": headers or {}, "timeout": httpx.Timeout(timeout, connect=10)}
        response = self._persist(lambda: self.once("GET", path, stream=True, **extra))
        try:
            with transport_errors():
                yield response
        finally:
            response.close()

    @cached_property
    def _store(self) -> httpx.Client:
        """For an object store that the server sends us to. It has no token."""
        return httpx.Client(trust_env=self._trust_env)

    def once(
        self, method: str, path: str, *, anonymous: bool = False, stream: bool = False, **request: Any
    ) -> httpx.Response:
        """One request, and a second one with a fresh token if the first was refused."""
        self.check_secure()
        if anonymous:
            return self._send(method, path, None, stream, request)
        token = self._bearer()
        try:
            return self._send(method, path, token, stream, request)
        except InvalidCredentials:
            raise  # a wrong password in the body, not the token
        except AuthRequired:
            return self._send(method, path, self._refresh(token), stream, request)

    # --- how ----------------------------------------------------------------------------------

    def _send(self, method: str, path: str, token: str | None, stream: bool, request: dict[str, Any]) -> httpx.Response:
        headers = dict(request.get("headers") or {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        with transport_errors():
            message = self._http.build_request(method, path, **(request | {"headers": headers}))
            response = self._http.send(message, stream=stream)
            if stream and sent_elsewhere(response):
                response.read()
                response.close()
                return follow(response, self._store)
            if stream and response.status_code >= 300 and response.status_code != 304:
                response.read()
                response.close()
        raise_for_problem(response)
        return response

    def _persist(self, send: Callable[[], httpx.Response], *, learn: bool = False) -> httpx.Response:
        """`learn`: go on for longer once the server may have done it, to learn what became of it."""
        tries, begun = 0, False

        def pause(error: Exception) -> bool | float:
            nonlocal tries, begun
            if not isinstance(error, Unavailable | RateLimited):
                return False
            tries += 1
            begun = begun or not isinstance(error, Unreachable | RateLimited)
            if tries >= _ATTEMPTS and not (learn and begun):
                return False
            after: float | None = getattr(error, "retry_after", None)
            return after <= _LONGEST_PAUSE and after if after is not None else True

        for attempt in stamina.retry_context(
            pause, attempts=_ATTEMPTS_TO_LEARN, timeout=None, wait_initial=0.2, wait_jitter=0.2
        ):
            with attempt:
                return send()
        raise AssertionError("stamina raises the last error")

    @staticmethod
    def _json(response: httpx.Response) -> Any:
        if not response.content:
            return None
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            raise FiapxError("the server's answer is not JSON; is it a fiapx?") from None
        if not isinstance(answer, dict):
            raise FiapxError("the server's answer is no JSON object; is it a fiapx?")
        return answer

    # --- tokens -------------------------------------------------------------------------------

    def logged_in(self) -> bool:
        """Whether there is a token at all; it may have expired."""
        return self._token is not None or self._own(self.profiles.load()).access_token is not None

    def _bearer(self) -> str:
        if self._token is not None:
            return self._token
        token = self._own(self.profiles.load()).access_token
        if token is None:
            raise AuthRequired(hint=LOGIN_HINT)
        return token

    def _own(self, profile: Profile) -> Profile:
        """The profile, without tokens if they belong to another server."""
        return profile if profile.server == self.server else Profile(server=self.server)

    def _refresh(self, refused: str) -> str:
        """A new access token. Under the profile's lock: of many processes one refreshes, the others take its token."""
        if self._token is not None:
            raise InvalidToken("FIAPX_TOKEN is invalid, expired or revoked", hint="Set a new one.")
        with self.profiles.locked():
            profile = self._own(self.profiles.load())
            if profile.access_token and profile.access_token != refused:
                return profile.access_token
            if profile.refresh_token is None:
                raise AuthRequired(hint=LOGIN_HINT)
            body = {"refresh_token": profile.refresh_token}
            try:
                pair = _pair(self.post("/auth/refresh", body, anonymous=True))
            except AuthRequired:
                raise AuthRequired("your log-in has ended", hint=LOGIN_HINT) from None
            self.profiles.save(replace(profile, access_token=pair[0], refresh_token=pair[1]))
            return pair[0]

    # --- the account --------------------------------------------------------------------------

    def login(self, email: str, password: str) -> None:
        """Log in and remember it."""
        form = {"grant_type": "password", "username": email, "password": password}
        pair = _pair(self._json(self.once("POST", "/auth/token", data=form, anonymous=True)))
        with self.profiles.locked():
            self.profiles.save(Profile(self.server, email, *pair))

    def logout(self) -> None:
        """End the session here and there. The tokens are forgotten even if the server cannot be told."""
        try:
            self.post("/auth/logout")
        except AuthRequired:
            pass  # it has ended already
        finally:
            if self._token is None:
                with self.profiles.locked():
                    profile = self.profiles.load()
                    self.profiles.save(Profile(profile.server, profile.email))


def _pair(answer: Any) -> tuple[str, str]:
    try:
        return str(answer["access_token"]), str(answer["refresh_token"])
    except (KeyError, TypeError):
        raise FiapxError("the server's answer holds no tokens; is it a fiapx?") from None
