"""The line between supervisors, and who is let in."""

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from skerry.training import spec
from skerry.training.spec import SupervisorSpec
from skerry.training.supervisor import channel, program
from skerry.training.supervisor.channel import BadPeer
from skerry.training.supervisor.ports import StorePort
from skerry.training.supervisor.wire import FROM_NODE, TO_NODE, Kill, Ready


@asynccontextmanager
async def leader(secret="secret", attempt="att_1"):
    """(port, a future of what came: (rank, channel) or the error)."""
    came = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        try:
            came.set_result(await channel.accept(reader, writer, secret, attempt))
        except BadPeer as error:
            came.set_result(error)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], came


async def test_both_ends_that_know_the_secret_speak():
    async with leader() as (port, came):
        follower = await channel.connect("127.0.0.1", port, 3, "secret", "att_1")
        rank, line = await came
        assert rank == 3
        line.send(Kill(7))
        follower.send(Ready())
        assert await follower.receive(TO_NODE) == Kill(7)
        assert await line.receive(FROM_NODE) == Ready()
        follower.close()
        with pytest.raises(ConnectionError):
            await line.receive(FROM_NODE)
        line.close()


@pytest.mark.parametrize(("secret", "attempt"), [("guess", "att_1"), ("secret", "att_2")])
async def test_a_leader_of_another_secret_or_attempt_is_none(secret, attempt):
    async with leader(secret, attempt) as (port, came):
        with pytest.raises(BadPeer):
            await channel.connect("127.0.0.1", port, 1, "secret", "att_1")
        assert isinstance(await came, BadPeer)


@pytest.mark.parametrize("bytes_", [b"GET / HTTP/1.1\r\n\r\n" + b"x" * 40, b"SKT1" + bytes(20) + bytes(32)])
async def test_who_cannot_prove_it_is_turned_away(bytes_):
    async with leader() as (port, came):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes_)
        assert isinstance(await came, BadPeer)
        writer.close()


async def test_a_message_that_was_changed_on_the_way_breaks_the_line():
    async with leader() as (port, came):
        follower = await channel.connect("127.0.0.1", port, 1, "secret", "att_1")
        _, line = await came
        follower._sent = 5  # as if four messages had been swallowed
        follower.send(Ready())
        with pytest.raises(BadPeer):
            await line.receive(FROM_NODE)
        for end in (follower, line):
            end.close()


def test_every_node_tries_the_same_ports_and_each_attempt_others():
    assert channel.ports("att_1") == channel.ports("att_1")
    assert len(set(channel.ports("att_1"))) == channel.CANDIDATES
    assert channel.ports("att_1") != channel.ports("att_2")


def test_the_port_of_a_store_is_kept_for_the_first_rank():
    held = StorePort()
    with socket.socket() as other, pytest.raises(OSError):
        other.bind(("127.0.0.1", held.number))
    with socket.create_server(("127.0.0.1", held.number)):
        assert StorePort().number != held.number
    held.close()


def test_a_supervisor_as_an_engine_starts_it(tmp_path):
    """Executed for real, with a command that needs no torch."""
    job = SupervisorSpec(job="trn_1", command=("sh", "-c", "echo ran as $RANK of $WORLD_SIZE"), secret="s" * 64)
    (tmp_path / spec.SPEC_FILE).write_text(spec.encode(job))
    done = subprocess.run(
        [sys.executable, "-m", "skerry.training.supervisor"],
        env={"PATH": os.environ["PATH"], "SKERRY_FILES": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "ran as 0 of 1\nskerry: every rank ended with 0\n"), done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "missing required field `job`"),
        ('{"job": "j", "command": ["a"], "secret": "s", "typo": 1}', "unknown field `typo`"),
        ('{"job": "j", "command": [], "secret": "s"}', "The command is empty"),
    ],
)
def test_a_bad_training_json_is_refused_by_name(tmp_path, monkeypatch, capsys, text, says):
    (tmp_path / spec.SPEC_FILE).write_text(text)
    monkeypatch.setenv("SKERRY_FILES", str(tmp_path))
    assert program.main() == 64
    assert says in capsys.readouterr().out
