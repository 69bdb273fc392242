"""Facts that services tell each other. An event is written to the outbox with the change it reports."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict

JOB_QUEUED: Final = "job.queued"
JOB_COMPLETED: Final = "job.completed"
JOB_FAILED: Final = "job.failed"
JOB_CANCELLED: Final = "job.cancelled"
USER_DELETED: Final = "user.deleted"


class Event(BaseModel):
    """`id` is unique for ever: subscribers use it to recognise a repeated delivery.

    `subject` is the id of the job or user the event is about; `data` holds JSON values only.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    type: str
    subject: str
    created_ms: int
    data: dict[str, Any] = {}
