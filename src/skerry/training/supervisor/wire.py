"""What a job's leading supervisor and each node's supervisor say to each other, its own node included.

Durations only (`age_ms`: how long ago, when it was sent): clocks of nodes differ.
"""

from typing import Final

import msgspec


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Start all ranks of this node."""

    generation: int
    master_address: str
    master_port: int
    checkpoint: str
    checkpoint_step: int


class Kill(msgspec.Struct, frozen=True, tag="kill"):
    """End all ranks at once, and say when none is left."""

    generation: int


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Ask the ranks to save and end."""


class Dump(msgspec.Struct, frozen=True, tag="dump"):
    """Have every rank write its stacks into the log."""


class Finish(msgspec.Struct, frozen=True, tag="finish"):
    """The attempt is over: exit with this code."""

    exit_code: int
    why: str


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Still there."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """This node can start ranks. `refusal`: it never will, with the exit code for it."""

    refusal: str = ""
    exit_code: int = 0


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """A rank has ended. `tail`: the last lines it wrote."""

    generation: int
    rank: int
    age_ms: int
    exit_code: int | None
    signal: int | None
    asked: bool
    out_of_memory: bool
    tail: str


class Cleared(msgspec.Struct, frozen=True, tag="cleared"):
    """Nothing is left of the generation on this node; all ends were told before."""

    generation: int


class RankSteps(msgspec.Struct, frozen=True, array_like=True):
    """Steps of one rank since it was last heard of. `step_ms`: of each that could be timed; `busy_ms` where told."""

    rank: int
    step: int
    numbered: bool
    age_ms: int
    first: bool
    step_ms: list[float] = []
    busy_ms: list[float] = []


class RankMetric(msgspec.Struct, frozen=True, array_like=True):
    rank: int
    name: str
    step: int
    age_ms: int
    value: float | None


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Signs of life of a node's ranks. `output_age_ms`: since one of them last wrote a line, if it did."""

    generation: int
    steps: list[RankSteps] = []
    metrics: list[RankMetric] = []
    output_age_ms: int | None = None
    stall_ms: int = 0
    dropped: int = 0


class States(msgspec.Struct, frozen=True, tag="states"):
    """Letters of /proc/<pid>/stat by rank: `T` is a stopped process, `D` one that waits for a device."""

    states: dict[int, str]


class StopAsked(msgspec.Struct, frozen=True, tag="stop_asked"):
    """This node was sent SIGTERM."""


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    """Not on the wire: the connection to the node broke."""


ToNode = Start | Kill | Stop | Dump | Finish | Ping
FromNode = Ready | Exited | Cleared | Progress | States | StopAsked | Ping | Gone

TO_NODE: Final[msgspec.json.Decoder[ToNode]] = msgspec.json.Decoder(ToNode)
FROM_NODE: Final[msgspec.json.Decoder[FromNode]] = msgspec.json.Decoder(FromNode)
