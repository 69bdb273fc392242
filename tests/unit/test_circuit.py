"""When a circuit lets calls through."""

from __future__ import annotations

from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from fiapx.core.breaker import State
from fiapx.core.circuit import Circuit, Resting
from fiapx.core.errors import NotFound, Unavailable
from fiapx.server.circuits import Circuits


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def states() -> list[State]:
    """All that it has been through."""
    return []


@pytest.fixture
def circuit(clock: Clock, states: list[State]) -> Circuit:
    return Circuit("store", threshold=3, rest=10, on_change=lambda circuit: states.append(circuit.state), clock=clock)


def call(circuit: Circuit, error: BaseException | None = None, *, insist: bool = False) -> bool:
    """Whether it was let through."""
    through = False
    with suppress(Exception), circuit.call(insist=insist):
        through = True
        if error is not None:
            raise error
    return through


def fail(circuit: Circuit) -> bool:
    return call(circuit, Unavailable())


def test_opens_after_failures_in_a_row_alone(circuit: Circuit) -> None:
    for error in (Unavailable(), Unavailable(), NotFound(), Unavailable(), ZeroDivisionError(), Unavailable()):
        assert call(circuit, error)  # what is not found was looked for; our own bugs say nothing
    assert (circuit.state, circuit.resting()) == (State.CLOSED, 0)
    assert fail(circuit)
    assert (circuit.state, circuit.resting()) == (State.OPEN, 10)
    assert not call(circuit)


def test_says_when_to_come_back(circuit: Circuit, clock: Clock) -> None:
    for _ in range(3):
        fail(circuit)
    clock.now = 3.5
    with pytest.raises(Resting) as refused, circuit.call():
        raise AssertionError
    assert (refused.value.code, refused.value.retry_after) == ("unavailable", 7)
    with pytest.raises(Resting):
        circuit.require()


def test_one_call_decides_after_the_rest(circuit: Circuit, clock: Clock, states: list[State]) -> None:
    for _ in range(3):
        fail(circuit)
    clock.now = 10
    assert circuit.resting() == 0
    with suppress(Unavailable), circuit.call():
        assert not call(circuit)
        assert circuit.resting() == 1
        raise Unavailable
    assert (circuit.state, circuit.resting()) == (State.OPEN, 10)
    clock.now = 20
    assert call(circuit, ZeroDivisionError())  # says nothing: the next one decides
    assert call(circuit)
    assert call(circuit)
    assert states == [State.OPEN, State.HALF_OPEN, State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_who_insists_is_let_through_and_counts(circuit: Circuit, clock: Clock) -> None:
    for _ in range(3):
        assert call(circuit, Unavailable(), insist=True)
    assert call(circuit, insist=True)
    assert circuit.resting() == 10  # a late answer says nothing of now
    clock.now = 10
    assert call(circuit)
    assert circuit.state is State.CLOSED


def test_changes_are_logged_and_states_told() -> None:
    circuits, registry = Circuits(), CollectorRegistry()
    registry.register(circuits)
    circuit = circuits.new("object store", threshold=1)
    assert registry.get_sample_value("fiapx_circuit_state", {"name": "object store"}) == 0
    with capture_logs() as logs:
        fail(circuit)
    assert logs == [
        {"event": "circuit_changed", "circuit": "object store", "state": "open", "log_level": "warning"},
    ]
    assert registry.get_sample_value("fiapx_circuit_state", {"name": "object store"}) == 1
