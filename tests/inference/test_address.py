"""Where replicas listen: on the address that the engine has for their node, and on this machine alone without one."""

import pytest

from skerry.inference.engines.address import Listening, listening


@pytest.mark.parametrize(
    ("addresses", "rank", "bind", "address", "near"),
    [
        ("", "0", "127.0.0.1", "http://127.0.0.1:7", "127.0.0.1"),
        ("127.0.0.1", "0", "127.0.0.1", "http://127.0.0.1:7", "127.0.0.1"),
        ("10.0.0.1,10.0.0.2", "1", "10.0.0.2", "http://10.0.0.2:7", "10.0.0.2"),
        ("fd00::1", "0", "fd00::1", "http://[fd00::1]:7", "fd00::1"),
        ("gpu-7.example", "0", "0.0.0.0", "http://gpu-7.example:7", "127.0.0.1"),
        ("10.0.0.1", "1", "127.0.0.1", "http://127.0.0.1:7", "127.0.0.1"),
        ("10.0.0.1", "x", "127.0.0.1", "http://127.0.0.1:7", "127.0.0.1"),
        ("10.0.0.1,", "1", "127.0.0.1", "http://127.0.0.1:7", "127.0.0.1"),
    ],
)
def test_a_replica_listens_where_others_reach_its_node(
    addresses: str, rank: str, bind: str, address: str, near: str
) -> None:
    where = listening({"SKERRY_NODE_ADDRESSES": addresses, "SKERRY_NODE_RANK": rank})
    assert (where.bind, where.address(7), where.near) == (bind, address, near)


def test_without_a_word_it_is_this_machine_alone() -> None:
    assert listening({}) == Listening("127.0.0.1", "127.0.0.1")
