"""RFC 9112 to the letter: what could be read in two ways is refused and the connection closed.

Whatever is not refused is exactly one request: a sentinel sent after it on the same connection must arrive as itself.
"""

import pytest

from tests.gateway.harness import KEY, route, running
from tests.gateway.wire import Answer, Arrival, backend, exchange, parse_answers

HIDDEN = b"GET /api/v1/hidden HTTP/1.1\r\nhost: x\r\n\r\n"
"""What an attacker wants to be taken for a request of its own."""
SENTINEL = b"GET /api/v1/sentinel HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"

REFUSED_HEADERS = {
    "length and chunked (CL.TE)": b"content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nG",
    "chunked and length (TE.CL)": b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n5c\r\n"
    + HIDDEN
    + b"\r\n0\r\n",
    "two encodings (TE.TE)": b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n" + LAST,
    "the same encoding twice": b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n" + LAST,
    "an encoding nobody knows": b"transfer-encoding: xchunked\r\n\r\n" + LAST,
    "chunked in quotes": b'transfer-encoding: "chunked"\r\n\r\n' + LAST,
    "chunked, chunked": b"transfer-encoding: chunked, chunked\r\n\r\n" + LAST,
    "chunked, identity": b"transfer-encoding: chunked, identity\r\n\r\n" + LAST,
    "gzip, chunked": b"transfer-encoding: gzip, chunked\r\n\r\n" + LAST,
    "chunked with a parameter": b"transfer-encoding: chunked;a=b\r\n\r\n" + LAST,
    "an empty element before chunked": b"transfer-encoding: ,chunked\r\n\r\n" + LAST,
    "vertical tab before chunked": b"transfer-encoding: \x0bchunked\r\n\r\n" + LAST,
    "empty encoding with a length": b"transfer-encoding: \r\ncontent-length: 3\r\n\r\nabc",
    "encoding folded over lines": b"transfer-encoding:\r\n chunked\r\n\r\n" + LAST,
    "encoding in the fold of another": b"x: a\r\n transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nabc",
    "folded header": b"x: a\r\n b\r\ncontent-length: 0\r\n\r\n",
    "space before the first header": b" x: a\r\ncontent-length: 0\r\n\r\n",
    "space before the colon of an encoding": b"transfer-encoding : chunked\r\n\r\n" + LAST,
    "space before the colon of a length": b"content-length : 3\r\n\r\nabc",
    "space before a colon": b"x : a\r\ncontent-length: 0\r\n\r\n",
    "two lengths": b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "the same length twice": b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "a list of lengths": b"content-length: 3, 3\r\n\r\nabc",
    "length with a plus": b"content-length: +3\r\n\r\nabc",
    "negative length": b"content-length: -3\r\n\r\nabc",
    "hexadecimal length": b"content-length: 0x3\r\n\r\nabc",
    "empty length": b"content-length: \r\n\r\nabc",
    "length of two words": b"content-length: 1 0\r\n\r\nabc",
    "length beyond 64 bits": b"content-length: 18446744073709551619\r\n\r\nabc",
    "length of 5,000 digits": b"content-length: " + b"9" * 5000 + b"\r\n\r\nabc",
    "length in other digits": "content-length: ٣\r\n\r\nabc".encode(),
    "length with an underscore": b"content-length: 1_0\r\n\r\n0123456789",
    "line ended by LF": b"x: a\ncontent-length: 3\r\n\r\nabc",
    "head ended by LF": b"content-length: 3\r\n\nabc",
    "CR in a value": b"x: a\rb\r\ncontent-length: 0\r\n\r\n",
    "line ended by CR": b"x: a\rcontent-length: 3\r\n\r\nabc",
    "NUL in a value": b"x: a\0b\r\ncontent-length: 0\r\n\r\n",
    "NUL in a name": b"x\0: a\r\ncontent-length: 0\r\n\r\n",
    "control character in a value": b"x: a\x01b\r\ncontent-length: 0\r\n\r\n",
    "DEL in a value": b"x: a\x7fb\r\ncontent-length: 0\r\n\r\n",
    "bracket in a name": b"x(y: a\r\ncontent-length: 0\r\n\r\n",
    "at sign in a name": b"x@: a\r\ncontent-length: 0\r\n\r\n",
    "letters beyond ASCII in a name": "é: a\r\ncontent-length: 0\r\n\r\n".encode(),
    "empty name": b": a\r\ncontent-length: 0\r\n\r\n",
    "no colon": b"xyz\r\ncontent-length: 0\r\n\r\n",
    "second Host": b"host: x\r\ncontent-length: 0\r\n\r\n",
    "two Authorizations": b"authorization: Bearer a\r\nauthorization: Bearer b\r\ncontent-length: 0\r\n\r\n",
    "compressed body": b"content-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
    "doubly compressed body": b"content-encoding: identity, br\r\ncontent-length: 3\r\n\r\nabc",
    "expectation nobody knows": b"expect: tea\r\ncontent-length: 0\r\n\r\n",
    "upgrade to HTTP/2": b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n",
    "upgrade to a web socket": b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n",
}
REFUSED_CHUNKS = {
    "LF after the size": b"3\nabc\n0\n\n",
    "LF in an extension": b"3;a\nabc\r\n" + LAST,
    "LF after the data": b"3\r\nabc\n" + LAST,
    "LF after the last chunk": b"3\r\nabc\r\n0\n\n",
    "CR alone after the size": b"3\rXabc\r\n" + LAST,
    "line break in a quoted extension": b'3;a="\r\nabc\r\n' + LAST,
    "control character in an extension": b"3;\x01\r\nabc\r\n" + LAST,
    "space before the size": b" 3\r\nabc\r\n" + LAST,
    "space after the size": b"3 \r\nabc\r\n" + LAST,
    "size beyond 64 bits": b"10000000000000003\r\nabc\r\n" + LAST,
    "negative size": b"-3\r\nabc\r\n" + LAST,
    "size with a plus": b"+3\r\nabc\r\n" + LAST,
    "size with 0x": b"0x3\r\nabc\r\n" + LAST,
    "size with an underscore": b"1_0\r\n0123456789012345\r\n" + LAST,
    "no size": b"\r\nabc\r\n" + LAST,
    "more data than its size": b"3\r\nabcd\r\n" + LAST,
    "no end of the last chunk": b"3\r\nabc\r\n0\r\n",
    "a length in the trailer": b"3\r\nabc\r\n0\r\ncontent-length: 5\r\n\r\n",
    "an encoding in the trailer": b"3\r\nabc\r\n0\r\ntransfer-encoding: chunked\r\n\r\n",
}
REFUSED_STARTS = {
    "HTTP/0.9": b"GET /api/v1/t\r\n\r\n",
    "HTTP/0.9, so called": b"GET /api/v1/t HTTP/0.9\r\nhost: x\r\n\r\n",
    "HTTP/1.2": b"GET /api/v1/t HTTP/1.2\r\nhost: x\r\n\r\n",
    "HTTP/2.0": b"GET /api/v1/t HTTP/2.0\r\nhost: x\r\n\r\n",
    "HTTP/9.9": b"GET /api/v1/t HTTP/9.9\r\nhost: x\r\n\r\n",
    "HTTP/11.1": b"GET /api/v1/t HTTP/11.1\r\nhost: x\r\n\r\n",
    "HTTP/1.10": b"GET /api/v1/t HTTP/1.10\r\nhost: x\r\n\r\n",
    "HTTP/4294967297.1": b"GET /api/v1/t HTTP/4294967297.1\r\nhost: x\r\n\r\n",
    "small letters": b"GET /api/v1/t http/1.1\r\nhost: x\r\n\r\n",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS on the plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "lines ended by LF": b"POST /api/v1/t HTTP/1.1\nhost: x\ncontent-length: 3\n\nabc",
    "tabs between the words": b"GET\t/api/v1/t\tHTTP/1.1\r\nhost: x\r\n\r\n",
    "space after the version": b"GET /api/v1/t HTTP/1.1 \r\nhost: x\r\n\r\n",
    "space before the method": b" GET /api/v1/t HTTP/1.1\r\nhost: x\r\n\r\n",
    "space in the target": b"GET /api/v1/t a HTTP/1.1\r\nhost: x\r\n\r\n",
    "NUL in the target": b"GET /api/v1/\0 HTTP/1.1\r\nhost: x\r\n\r\n",
    "letters beyond ASCII in the target": "GET /api/v1/é HTTP/1.1\r\nhost: x\r\n\r\n".encode(),
    "method in small letters": b"get /api/v1/t HTTP/1.1\r\nhost: x\r\n\r\n",
    "method nobody knows": b"FOO /api/v1/t HTTP/1.1\r\nhost: x\r\n\r\n",
    "CONNECT": b"CONNECT evil:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    "no Host": b"GET /api/v1/t HTTP/1.1\r\n\r\n",
    "two Hosts with HTTP/1.0": b"GET /api/v1/t HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n",
    "Host with a path": b"GET /api/v1/t HTTP/1.1\r\nhost: a/b\r\n\r\n",
    "Host with a user": b"GET /api/v1/t HTTP/1.1\r\nhost: a@b\r\n\r\n",
    "Host with a space": b"GET /api/v1/t HTTP/1.1\r\nhost: a b\r\n\r\n",
    "a list of Hosts": b"GET /api/v1/t HTTP/1.1\r\nhost: a, b\r\n\r\n",
    "chunked with HTTP/1.0": b"POST /api/v1/t HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a target of 40 KB": b"GET /api/v1/" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
}


def _refused() -> dict[str, bytes]:
    """All of it, on a path of the control API and on one that the gateway answers itself."""
    plain = b"POST /api/v1/t HTTP/1.1\r\nhost: x\r\n"
    hot = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n" % KEY.encode()
    cases = {name: raw + HIDDEN for name, raw in REFUSED_STARTS.items()}
    for where, head in (("", plain), (", chat", hot)):
        cases |= {name + where: head + raw + HIDDEN for name, raw in REFUSED_HEADERS.items()}
        cases |= {name + where: head + CHUNKED + raw + HIDDEN for name, raw in REFUSED_CHUNKS.items()}
    return cases


REFUSED = _refused()
ONE = {
    "a plain one": (b"POST /api/v1/t HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc", "/api/v1/t", b"abc"),
    "chunked": (b"POST /t HTTP/1.1\r\nhost: x\r\n" + CHUNKED + b"2\r\nab\r\n1\r\nc\r\n" + LAST, "/t", b"abc"),
    "CHUNKED": (b"POST /t HTTP/1.1\r\nHOST: x\r\n" + CHUNKED.upper() + b"3\r\nabc\r\n" + LAST, "/t", b"abc"),
    "tab before chunked": (
        b"POST /t HTTP/1.1\r\nhost: x\r\ntransfer-encoding:\tchunked\r\n\r\n3\r\nabc\r\n" + LAST,
        "/t",
        b"abc",
    ),
    "extension": (b"POST /t HTTP/1.1\r\nhost: x\r\n" + CHUNKED + b'3;a=b;c="d e"\r\nabc\r\n' + LAST, "/t", b"abc"),
    "zeros before a size": (b"POST /t HTTP/1.1\r\nhost: x\r\n" + CHUNKED + b"0003\r\nabc\r\n00\r\n\r\n", "/t", b"abc"),
    "zeros before a length": (b"POST /t HTTP/1.1\r\nhost: x\r\ncontent-length: 003\r\n\r\nabc", "/t", b"abc"),
    "GET with a body": (b"GET /t HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc", "/t", b"abc"),
    "empty lines before it": (b"\r\n\r\nGET /t HTTP/1.1\r\nhost: x\r\n\r\n", "/t", b""),
    "body that looks like a request": (
        b"POST /t HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(HIDDEN), HIDDEN),
        "/t",
        HIDDEN,
    ),
    "Connection names the length": (
        b"POST /t HTTP/1.1\r\nhost: x\r\nconnection: content-length\r\ncontent-length: 3\r\n\r\nabc",
        "/t",
        b"abc",
    ),
    "length with an underscore in its name": (
        b"POST /t HTTP/1.1\r\nhost: x\r\ncontent_length: 9\r\ncontent-length: 3\r\n\r\nabc",
        "/t",
        b"abc",
    ),
    "letters of Latin-1 in a value": (b"GET /t HTTP/1.1\r\nhost: x\r\nx: \xe9\r\n\r\n", "/t", b""),
}


@pytest.fixture
async def behind():
    async with backend() as server:
        yield server


@pytest.fixture
async def front(behind):
    async with running(server_url=behind.url) as bench:
        bench.routes(route(f"{behind.url}/v1"))
        yield bench


@pytest.mark.parametrize("name", REFUSED)
async def test_what_could_be_read_two_ways_is_refused_and_the_connection_closed(front, behind, name):
    answers = await exchange(front.port, REFUSED[name], half_close=False)
    assert len(answers) == 1, f"refused once: {answers}"
    assert 400 <= answers[0].status < 500 or answers[0].status in (501, 505)
    assert answers[0].closes
    assert behind.arrivals == [] and front.records() == []


@pytest.mark.parametrize("name", ["line ended by LF", "a list of lengths", "two encodings (TE.TE)", "NUL in a value"])
async def test_it_is_refused_however_the_bytes_come(front, behind, name):
    raw = REFUSED[name]
    answers = await exchange(front.port, *(raw[i : i + 1] for i in range(len(raw))), half_close=False)
    assert [answer.status for answer in answers] == [400] and behind.arrivals == []


@pytest.mark.parametrize("name", ONE)
async def test_what_is_taken_is_exactly_one_request(front, behind, name):
    raw, target, body = ONE[name]
    answers = await exchange(front.port, raw, SENTINEL, half_close=False)
    assert [answer.status for answer in answers] == [200, 200]
    assert [(arrival.target, arrival.body) for arrival in behind.arrivals] == [
        (target, body),
        ("/api/v1/sentinel", b""),
    ]


@pytest.mark.parametrize(
    "target", ["http://evil/api/v1/t", "http://x/api/v1/t", "*", "evil:80", "api/v1/t", "/t#fragment"]
)
async def test_targets_that_are_no_paths_reach_nobody(front, behind, target):
    """Also where what follows on the connection is answered: there is no doubt where such a request ends."""
    raw = f"OPTIONS {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    answers = await exchange(front.port, raw, SENTINEL, half_close=False)
    assert answers[0].status == 400
    assert [arrival.target for arrival in behind.arrivals] in ([], ["/api/v1/sentinel"])


async def test_trailers_are_read_and_left_out(front, behind):
    """They come after everything was checked: none may become a header."""
    raw = (
        b"POST /api/v1/t HTTP/1.1\r\nhost: x\r\ntrailer: authorization\r\n" + CHUNKED + b"3\r\nabc\r\n0\r\n"
        b"authorization: Bearer sk-evil\r\nx-skerry-client-ip: 6.6.6.6\r\nhost: evil\r\nx-other: 1\r\n\r\n"
    )
    answers = await exchange(front.port, raw, SENTINEL, half_close=False)
    assert [answer.status for answer in answers] == [200, 200]
    first = behind.arrivals[0]
    assert first.body == b"abc" and _host(first) == "x"
    assert not {"authorization", "x-other"} & {name for name, _ in first.headers}
    assert [value for name, value in first.headers if name == "x-skerry-client-ip"] == ["127.0.0.1"]


async def test_what_the_server_hears_of_connections_is_ours(front, behind):
    raw = (
        b"GET /t HTTP/1.1\r\nhost: x\r\nconnection: keep-alive\r\nkeep-alive: timeout=9\r\nte: trailers\r\n"
        b"proxy-connection: keep-alive\r\nproxy-authorization: Basic x\r\nx-request-id: mine\r\n"
        b"forwarded: for=6.6.6.6\r\nx-forwarded-host: evil\r\nx-real-ip: 6.6.6.6\r\nvia: 1.1 evil\r\nmark: here\r\n\r\n"
    )
    await exchange(front.port, raw, SENTINEL, half_close=False)
    names = [name for name, _ in behind.arrivals[0].headers]
    assert sorted(names) == ["host", "mark", "x-request-id", "x-skerry-client-ip"]
    assert ("x-request-id", "mine") not in behind.arrivals[0].headers


def _host(arrival: Arrival) -> str:
    return next(value for name, value in arrival.headers if name == "host")


def test_the_reader_of_answers_sees_what_is_too_much() -> None:
    """The tests above rest on it."""
    two, rest = Answer(200, (("content-length", "1"),), b"a"), b"HTTP/1.1 2"
    raw = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na"
    assert parse_answers(raw * 2 + rest) == ([two, two], rest)
