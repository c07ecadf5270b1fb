"""Event streams: however their bytes are cut, the client gets the same, and the same is counted."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.inference.gateway.sse import MAX_EVENT, BadStream, EventStream, Usage


def chunk(delta: object = None, **more: object) -> str:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}]
    return json.dumps({"id": "c1", "model": "engine", "choices": choices, **more}, separators=(",", ":"))


USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}

bits = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["data: x", '"usage"', '"error":{}', "[DONE]", '"content":""', '{"content":"y"}', "\r\n\r\n", "ü😀", ": no"]
)
deltas: st.SearchStrategy[dict[str, object]] = st.one_of(
    bits.map(lambda text: {"content": text}),
    bits.map(lambda text: {"role": "assistant", "content": "", "reasoning_content": text}),
    bits.map(lambda text: {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}),
    st.just({}),
)
payloads = st.one_of(
    st.builds(chunk, deltas),
    st.builds(lambda text: json.dumps({"choices": [{"text": text}], "model": "engine"}), bits),
    st.just(chunk({}, usage=None)),
)
events = st.one_of(
    payloads.map(lambda payload: f"data: {payload}\n\n"),
    payloads.map(lambda payload: f"data:{payload}\n\n"),
    payloads.map(lambda payload: f"id: 7\nevent: message\ndata: {payload}\n\n"),
    st.sampled_from([": ping\n\n", "\n\n", "retry: 5\n\n", "data: \n\n"]),
)
endings = st.sampled_from(
    [
        "",
        "data: [DONE]\n\n",
        f"data: {chunk(usage=USAGE)}\n\ndata: [DONE]\n\n",
        f"data: {chunk({'content': 'z'}, usage=USAGE)}\n\ndata: [DONE]\n\n",
        f"data: [DONE]\n\ndata: {chunk({'content': 'late'})}\n\n",
    ]
)
cuts = st.lists(st.floats(0, 1), max_size=12)


def run(data: bytes, cuts: list[float], model: str | None) -> tuple[bytes, EventStream]:
    stream, sent = EventStream(model), b""
    places = [0, *sorted(int(cut * len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        if piece := data[start:end]:
            sent += stream.feed(piece)
    return sent, stream


def outcome(stream: EventStream) -> tuple[object, ...]:
    return stream.content, stream.usage, stream.usage_event, stream.done


@settings(max_examples=250, deadline=None)
@given(
    st.lists(events, max_size=8), endings, cuts, st.sampled_from([None, "ours"]), st.sampled_from(["\n", "\r\n", "\r"])
)
def test_cuts_change_nothing(
    before: list[str], ending: str, cuts: list[float], model: str | None, newline: str
) -> None:
    data = ("".join(before) + ending).replace("\n", newline).encode()
    whole, at_once = run(data, [], model)
    cut, in_pieces = run(data, cuts, model)
    single, by_byte = run(data, [n / len(data) for n in range(len(data))] if data else [], model)
    assert whole == cut == single
    assert outcome(at_once) == outcome(in_pieces) == outcome(by_byte)
    if newline != "\n":
        plain, reference = run(data.replace(newline.encode(), b"\n"), cuts, model)
        assert (plain, outcome(reference)) == (whole, outcome(at_once)), "line ends do not matter"


@settings(max_examples=100, deadline=None)
@given(st.lists(payloads, max_size=8), cuts)
def test_the_client_gets_every_chunk_and_each_with_text_counts_once(payloads: list[str], cuts: list[float]) -> None:
    sent, stream = run("".join(f"data: {payload}\n\n" for payload in payloads).encode(), cuts, None)
    got = [json.loads(event.removeprefix(b"data: ")) for event in sent.split(b"\n\n") if event]
    assert got == [json.loads(payload) for payload in payloads]
    assert stream.content == sum(map(_has_text, got))


def _has_text(event: dict[str, object]) -> bool:
    def texts(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [v for k, v in value.items() if k in ("content", "text", "arguments", "reasoning_content")]
            return [v for v in own if isinstance(v, str)] + [t for v in value.values() for t in texts(v)]
        return [t for v in value for t in texts(v)] if isinstance(value, list) else []

    return any(texts(event))


def test_the_usage_chunk_is_kept_back() -> None:
    sent, stream = run(f"data: {chunk({'content': 'a'})}\n\ndata: {chunk(usage=USAGE)}\n\n".encode(), [], None)
    assert b"usage" not in sent and stream.content == 1
    assert stream.usage is not None
    assert (stream.usage.prompt_tokens, stream.usage.cached, stream.usage.completion_tokens) == (9, 2, 4)
    assert stream.usage_event == chunk(usage=USAGE).encode()


def test_usage_beside_choices_is_taken_out_of_its_chunk() -> None:
    sent, stream = run(f"data: {chunk({'content': 'a'}, usage=USAGE, timings={'x': 1})}\n\n".encode(), [], None)
    assert json.loads(sent.removeprefix(b"data: ")) == json.loads(chunk({"content": "a"}))
    assert stream.usage is not None and stream.usage_event is None and stream.content == 1


def test_the_engine_s_name_of_the_model_is_replaced() -> None:
    sent, _ = run(f"data: {chunk({'content': 'a'})}\n\n".encode(), [], 'our "model"')
    assert json.loads(sent.removeprefix(b"data: "))["model"] == 'our "model"'


def test_an_event_of_several_lines_stays_one_event() -> None:
    sent, stream = run(b'data: {"choices":\ndata: [{"delta":{"content":"a"}}]}\n\n', [], None)
    assert sent == b'data: {"choices":\ndata: [{"delta":{"content":"a"}}]}\n\n' and stream.content == 1


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":{"message":"out of memory"}}\n\n',
        b'error: {"message":"slot"}\n\n',
        b'data: {"error":"x","choices":[]}\n\n',
        b'data: {"usage":{"prompt_tokens":"many"}}\n\n',
        b'data: {"usage":{"prompt_tokens":-5}}\n\n',
        b'data: {"usage":{"completion_tokens":99999999999999999999999}}\n\n',
        b'data: {"usage": nonsense\n\n',
        b"data: " + b"x" * MAX_EVENT + b"\n\n",
        b"data: " + b"x" * MAX_EVENT,
    ],
)
@pytest.mark.parametrize("cut", [0.0, 0.5])
def test_what_is_no_stream_is_refused_and_what_came_before_it_counts(event: bytes, cut: float) -> None:
    stream = EventStream(None)
    first = f"data: {chunk({'content': 'a'})}\n\n".encode()
    second = f"data: {chunk({'content': 'b'})}\n\n".encode()
    delivered = stream.feed(first)
    with pytest.raises(BadStream) as caught:
        place = int(cut * len(event))
        delivered += stream.feed(second + event[:place]) if place else b""
        stream.feed(event[place:] if place else second + event)
    assert delivered + caught.value.passed == first + second
    assert stream.content == 2


def framed(*events: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)


def test_whole_chunks_of_plain_events_are_counted_as_they_are() -> None:
    stream = EventStream(None)
    events = [f"data: {chunk({'content': word})}\n\n".encode() for word in ("a", "", "b")]
    assert stream.chunks(framed(*events)) == len(framed(*events))
    assert (stream.content, stream.plain) == (2, sum(map(len, events)))


@pytest.mark.parametrize("after", [b"5", b"0\r\n\r\n", framed(b"data: [DONE]\n\n"), framed(b"data: {}\n\n")[:-1]])
def test_plain_chunks_are_taken_up_to_the_first_that_is_not(after: bytes) -> None:
    stream = EventStream(None)
    plain = framed(f"data: {chunk({'content': 'a'})}\n\n".encode())
    assert stream.chunks(plain * 2 + after) == 2 * len(plain)
    assert stream.chunks(after) == 0
    assert stream.content == 2


words = bits | st.sampled_from(
    ["a", " the", 'x","usage":{"prompt_tokens":7},"y":"', 'x"}}]}\n\ndata: {"z', "\\", "[DONE]"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(words, st.booleans()), max_size=8), st.booleans())
def test_an_event_like_the_one_before_is_seen_as_if_alone(texts: list[tuple[str, bool]], at_once: bool) -> None:
    """Also where the text is not as JSON has it."""
    shown = [json.dumps(text)[1:-1] if escaped else text for text, escaped in texts]
    events = [f'data: {{"choices":[{{"delta":{{"content":"{text}"}}}}]}}\n\n'.encode() for text in shown]
    careful, sent = _end_of(EventStream(None), events, chunks=False)
    quick, sent_quickly = _end_of(EventStream(None), [b"".join(events)] if at_once else events, chunks=True)
    assert (sent_quickly, quick) == (sent, careful)


def _end_of(stream: EventStream, pieces: list[bytes], *, chunks: bool) -> tuple[object, bytes]:
    """What came of it, and what the client got; `chunks`: as chunks of one event each, where they are that."""
    sent = b""
    try:
        for piece in pieces:
            events = [event + b"\n\n" for event in piece.split(b"\n\n")[:-1]]
            data = framed(*events)
            taken = stream.chunks(data) if chunks else 0
            through = next(n for n in range(len(events) + 1) if len(framed(*events[:n])) == taken)
            sent += b"".join(events[:through])
            for event in events[through:]:
                sent += stream.feed(event)
    except BadStream as error:
        return "bad", sent + error.passed
    return outcome(stream), sent


@pytest.mark.parametrize(
    "data",
    [
        framed(b"data: {}\n\n")[:-1],
        framed(b"data: {}\n\ndata: {}\n\n"),
        framed(b"data: {}\n"),
        framed(b"data: {}\r\n\r\n"),
        framed(b"event: x\n\n"),
        framed(b'data: {"usage":{"prompt_tokens":1}}\n\n'),
        framed(b'data: {"error":"x"}\n\n'),
        framed(b"data: [DONE]\n\n"),
        b"+a\r\ndata: {}\n\n\r\n",
        b"a;x\r\ndata: {}\n\n\r\n",
        b"0xa\r\ndata: {}\n\n\r\n",
        b"1_0\r\ndata: {123456}\n\n\r\n",
        b"g\r\ndata: {}\n\n\r\n",
        b"a\ndata: {}\n\n\r\n",
        b"",
    ],
)
def test_chunks_that_are_not_so_simple_are_left_to_the_parser(data: bytes) -> None:
    stream = EventStream(None)
    assert stream.chunks(data) <= 0 and stream.content == 0


def test_chunks_that_say_there_is_no_usage_yet_are_plain() -> None:
    stream = EventStream(None)
    assert stream.chunks(framed(b'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}\n\n')) > 0


def test_an_error_inside_a_text_is_only_text() -> None:
    text = chunk({"content": '{"error": {}} data: '})
    data = f"data: {text}\n\n".encode()
    sent, stream = run(data, [], None)
    assert sent == data and not stream.done and stream.content == 1


@pytest.mark.parametrize(
    ("details", "cached"), [(None, 0), ({}, 0), ({"cached_tokens": None}, 0), ({"cached_tokens": 99}, 9)]
)
def test_cached_tokens_are_part_of_the_prompt(details: object, cached: int) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": details}
    _, stream = run(f"data: {chunk(usage=usage)}\n\n".encode(), [], None)
    assert isinstance(stream.usage, Usage) and stream.usage.cached == cached
