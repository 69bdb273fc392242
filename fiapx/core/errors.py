"""One tree of errors. Each class fixes a stable code, an HTTP status and a process exit code.

The docstring of a class is its default message. `code` is part of the public API: it appears in
problem+json bodies, in failed jobs and in ``--json`` output, and never changes its meaning.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """Exit codes of the command line."""

    OK = 0
    FAILED = 1
    USAGE = 2
    LOGIN_NEEDED = 4
    TEMPORARY = 5
    SOME_FAILED = 6
    TIMED_OUT = 124
    INTERRUPTED = 130


class FiapxError(Exception):
    """Something went wrong inside fiapx; this is a bug, please report it."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[Exit] = Exit.FAILED

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.hint = hint
        """What the user can do about it, if there is anything to say."""
        super().__init__(self.message)


# --- requests ---------------------------------------------------------------------------------


class UsageError(FiapxError):
    """The command was not called as it should be."""

    code, status, exit_code = "usage", 400, Exit.USAGE


class InvalidOptions(UsageError):
    """The extraction options do not make sense."""

    code, status = "invalid_options", 422


class InvalidRequest(UsageError):
    """The request does not make sense."""

    code, status = "invalid_request", 422


class OutputExists(UsageError):
    """The output exists already."""

    code, status = "output_exists", 409


class InputNotFound(UsageError):
    """The input file cannot be read."""

    code, status = "input_not_found", 404


class NotFound(FiapxError):
    """There is no such thing."""

    code, status = "not_found", 404


class Conflict(FiapxError):
    """That is not possible in the present state."""

    code, status = "conflict", 409


class EmailTaken(Conflict):
    """An account with this e-mail address exists already."""

    code = "email_taken"


class LastAdmin(Conflict):
    """This is the only administrator who can log in; make another one first."""

    code = "last_admin"


class JobFinished(Conflict):
    """The job has ended already."""

    code = "job_finished"


class JobNotFinished(Conflict):
    """The job has no result yet."""

    code = "job_not_finished"


class Expired(FiapxError):
    """The result has been let go: this server keeps results for a time only."""

    code, status = "expired", 410


class OffsetMismatch(Conflict):
    """The upload is at another offset."""

    code = "offset_mismatch"


class Superseded(Conflict):
    """Another request goes on with this upload."""

    code = "superseded"


class IdempotencyMismatch(Conflict):
    """This Idempotency-Key was used before with another request."""

    code, status = "idempotency_mismatch", 422


class WeakPassword(FiapxError):
    """The password is too easy to guess."""

    code, status, exit_code = "weak_password", 422, Exit.USAGE


class AuthRequired(FiapxError):
    """Log in first."""

    code, status, exit_code = "auth_required", 401, Exit.LOGIN_NEEDED


class InvalidCredentials(AuthRequired):
    """E-mail address or password are wrong."""

    code = "invalid_credentials"


class InvalidToken(AuthRequired):
    """The token is invalid, expired or revoked."""

    code = "invalid_token"


class Forbidden(FiapxError):
    """Only administrators may do that."""

    code, status = "forbidden", 403


class RateLimited(FiapxError):
    """Too many requests; try again later."""

    code, status, exit_code = "rate_limited", 429, Exit.TEMPORARY

    def __init__(self, message: str | None = None, *, hint: str | None = None, retry_after: int = 5) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        """Seconds after which asking again makes sense."""


class TooManyJobs(RateLimited):
    """Too many jobs of yours wait or run; wait for some to end."""

    code = "too_many_jobs"


class PayloadTooLarge(FiapxError):
    """The upload is larger than this server accepts."""

    code, status = "payload_too_large", 413


class UploadChecksum(FiapxError):
    """The bytes do not have the checksum that was sent with them."""

    code, status, exit_code = "upload_checksum", 460, Exit.TEMPORARY


class RangeNotSatisfiable(FiapxError):
    """The requested range lies outside the object."""

    code, status = "range_not_satisfiable", 416


# --- the environment --------------------------------------------------------------------------


class Unavailable(FiapxError):
    """A service that is needed does not answer; try again later."""

    code, status, exit_code = "unavailable", 503, Exit.TEMPORARY


class QueueFull(Unavailable):
    """Too much work is waiting already; try again later."""

    code = "queue_full"
    retry_after = 30


class MailRejected(FiapxError):
    """The mail server refused the message for good."""

    code, status = "mail_rejected", 502


class NoSpace(FiapxError):
    """There is no space left to store this."""

    code, status, exit_code = "no_space", 503, Exit.TEMPORARY
    retry_after = 30


class AlreadyRunning(FiapxError):
    """Another fiapx is running on the same data."""

    code, status = "already_running", 409


class FFmpegMissing(FiapxError):
    """No usable FFmpeg was found."""

    code, status = "ffmpeg_missing", 503


class Cancelled(FiapxError):
    """The work was cancelled."""

    code, status, exit_code = "cancelled", 409, Exit.INTERRUPTED


class LeaseLost(FiapxError):
    """This worker no longer owns the job."""

    code, status = "lease_lost", 409


class WaitTimedOut(FiapxError):
    """The job did not end in the time given."""

    code, status, exit_code = "wait_timed_out", 504, Exit.TIMED_OUT


class ChecksumMismatch(FiapxError):
    """The downloaded bytes do not have the checksum that the server promised."""

    code, status, exit_code = "checksum_mismatch", 502, Exit.TEMPORARY


# --- the video --------------------------------------------------------------------------------


class MediaError(FiapxError):
    """The video cannot be processed."""

    code, status = "media_error", 422


class UnsupportedFormat(MediaError):
    """This is not a video file of a supported format."""

    code = "unsupported_format"


class UnsupportedCodec(MediaError):
    """The video uses a codec that is not supported."""

    code = "unsupported_codec"


class CorruptMedia(MediaError):
    """The video is damaged and cannot be read."""

    code = "corrupt_media"


class NoVideoStream(MediaError):
    """The file holds no video (audio and cover art do not count)."""

    code = "no_video_stream"


class NoFrames(MediaError):
    """No frame could be extracted."""

    code = "no_frames"


class TooManyFrames(MediaError):
    """The request would give too many frames."""

    code = "too_many_frames"


class FrameTooLarge(MediaError):
    """The pictures have too many pixels."""

    code = "frame_too_large"


class OutputTooLarge(MediaError):
    """The result would be too large."""

    code = "output_too_large"


class LimitExceeded(MediaError):
    """The video took more time or memory than is allowed."""

    code = "limit_exceeded"


class DecoderFailed(MediaError):
    """The decoder died."""

    code = "decoder_failed"


class EngineMismatch(FiapxError):
    """This engine is another one than the task was planned for."""

    code = "engine_mismatch"


class SourceMismatch(FiapxError):
    """The source is another one than the task was planned for."""

    code = "source_mismatch"


class Inconsistent(FiapxError):
    """What is stored is not what the books say."""

    code = "inconsistent"


class CrashLoop(FiapxError):
    """Processing crashed on every attempt."""

    code = "crash_loop"


def _tree(root: type[FiapxError]) -> Iterator[type[FiapxError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def error_class(code: str) -> type[FiapxError]:
    """The class with this stable code; `FiapxError` itself for a code this version does not know."""
    return next((cls for cls in _tree(FiapxError) if cls.code == code), FiapxError)
