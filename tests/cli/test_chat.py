"""`skerry chat`: one question, and a conversation."""

import json
import signal
import threading

import pytest

from skerry.cli.conversation import Conversation
from skerry.cli.repl import Repl
from skerry.client import Skerry
from tests.cli.fake_cloud import problem
from tests.cli.terminal import Terminal


def chats(cloud):
    return [asked.body for asked in cloud.of("/v1/chat/completions")]


@pytest.mark.parametrize(("args", "input"), [(["Hi there"], None), ([], "Hi there\n"), (["-"], "Hi there\n")])
def test_one_question(run, cloud, args, input):
    result = run("chat", *args, input=input)
    assert result.stdout == "Hello world\n"
    assert result.exit_code == 0
    assert "12 prompt (4 cached) + 2 completion tokens · first token" in result.stderr
    assert "cost 0.0000123 EUR" in result.stderr
    [body] = chats(cloud)
    assert (body["model"], body["messages"]) == ("tiny", [{"role": "user", "content": "Hi there"}])


def test_options_go_along(run, cloud):
    run("chat", "Hi", "-m", "other", "--system", "Be brief.", "--max-tokens", "5", "--temperature", "0")
    [body] = chats(cloud)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("other", 5, 0)
    assert cloud.of("/v1/models") == []


def test_json(run, cloud):
    result = run("chat", "Hi", "--json")
    answer = json.loads(result.stdout)
    assert (answer["content"], answer["model"], answer["request_id"]) == ("Hello world", "tiny", "req_1")
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
    assert answer["skerry"] == {"cost": "0.0000123", "currency": "EUR", "energy_mwh": 5}
    assert result.stderr == ""


def test_a_refusal(run, cloud):
    error = {"error": {"message": "The budget is spent.", "type": "insufficient_quota", "code": "budget_exhausted"}}
    cloud.answers["POST /v1/chat/completions"] = (402, error)
    result = run("chat", "Hi")
    assert (result.exit_code, result.stderr) == (1, "Error: The budget is spent.\n")


def test_no_model(run, cloud):
    cloud.answers["GET /v1/models"] = (200, {"object": "list", "data": []})
    result = run("chat", "Hi")
    assert result.exit_code == 1
    assert "skerry models add" in result.stderr


class TestRepl:
    """The loop itself, with lines from a list."""

    @pytest.fixture
    def talk(self, cloud, capsys):
        def converse(*lines, **options):
            typed = iter(lines)

            def read_line(prompt):
                line = next(typed, EOFError())
                if isinstance(line, BaseException):
                    raise line
                return line

            shown = []
            with Skerry(cloud.url, "sk-project") as client:
                conversation = Conversation(client, "tiny", **options)
                Repl(conversation, read_line, shown.append).run()
            return "".join(shown), capsys.readouterr().err

        return converse

    def test_it_keeps_the_conversation(self, talk, cloud):
        shown, said = talk("One", "", "Two")
        assert shown == "Hello world\nHello world\n"
        assert said.count("cost 0.0000123 EUR") == 2
        assert [message["content"] for message in chats(cloud)[1]["messages"]] == ["One", "Hello world", "Two"]

    def test_commands(self, talk, cloud):
        _, said = talk(
            "One",
            "/reset",
            "/system Be brief.",
            "/model other",
            "Two",
            "/model",
            "/system",
            "Three",
            "/what",
            "/exit",
            "x",
        )
        assert [message["content"] for message in chats(cloud)[1]["messages"]] == ["Be brief.", "Two"]
        assert chats(cloud)[2]["messages"][0]["role"] == "user"
        assert [body["model"] for body in chats(cloud)] == ["tiny", "other", "other"]
        assert "* other" in said
        assert "There is no command /what" in said

    def test_an_unknown_model_is_refused(self, talk, cloud):
        _, said = talk("/model nope", "Hi")
        assert "There are: tiny, other." in said
        assert chats(cloud)[0]["model"] == "tiny"

    def test_long_questions_go_over_lines(self, talk, cloud):
        talk("One \\", "two")
        assert chats(cloud)[0]["messages"][0]["content"] == "One \ntwo"

    def test_what_is_no_text_does_not_end_the_session(self, talk, cloud):
        talk("caf\udce9")
        assert chats(cloud)[0]["messages"][0]["content"] == "caf?"

    def test_an_error_ends_the_answer_and_not_the_session(self, talk, cloud):
        cloud.answers["POST /v1/chat/completions"] = problem(429, "rate_limited", "Too fast.")
        _, said = talk("One", KeyboardInterrupt(), "/help", "Two")
        assert said.count("Error: Too fast.") == 2
        assert "/reset" in said
        # The question that had no answer is not part of the next.
        assert [len(body["messages"]) for body in chats(cloud)] == [1, 1]


def test_ctrl_c_stops_the_answer_and_keeps_the_session(cloud, env):
    cloud.slow = threading.Event()
    cloud.slow.set()
    terminal = Terminal(env, "chat")
    terminal.until("> ")
    terminal.type("One\n")
    terminal.until("Hello world.")
    terminal.process.send_signal(signal.SIGINT)
    terminal.until("stopped")
    assert cloud.left.wait(10), "the server was not told to stop"
    cloud.slow.clear()
    terminal.type("Two\n")
    terminal.until("cost 0.0000123 EUR")
    terminal.type("/exit\n")
    assert terminal.end() == 0
    messages = chats(cloud)[1]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"].startswith("Hello world.")


def test_ctrl_c_ends_a_single_question(cloud, env):
    cloud.slow = threading.Event()
    cloud.slow.set()
    terminal = Terminal(env, "chat", "Hi")
    terminal.until("Hello world.")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert cloud.left.wait(10)
    assert "Traceback" not in terminal.output
