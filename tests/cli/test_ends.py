"""How commands end: exit codes and what they say."""

import pytest

from tests.cli.fake_cloud import problem


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (problem(401, "expired_key", "The key has expired."), 4),
        (problem(403, "missing_scope", "The key lacks the scope write."), 4),
        (problem(404, "not_found", "There is no model x."), 1),
        (problem(402, "budget_exhausted", "The budget is spent."), 1),
        (problem(500, "internal_error", "Something went wrong."), 1),
        ((200, {"surprise": True}), 1),
    ],
)
def test_refusals(run, cloud, answer, code):
    cloud.answers["GET /api/v1/models/x"] = answer
    result = run("models", "show", "x")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr


def test_a_refusal_shows_fields_and_what_to_do(run, cloud):
    errors = [{"path": "name", "code": "bad", "message": "too long"}]
    answer = problem(422, "invalid", "The model cannot be added.", suggestion="Choose a shorter name.", errors=errors)
    cloud.answers["POST /api/v1/models"] = answer
    result = run("models", "add", "x", "--hub", "a/b")
    assert result.stderr == "Error: The model cannot be added.\n  name: too long\nChoose a shorter name.\n"


def test_what_is_said_is_said_once(run, cloud):
    errors = [{"path": "name", "code": "bad", "message": "too long"}]
    cloud.answers["POST /api/v1/models"] = problem(422, "invalid", "name: too long", errors=errors)
    assert run("models", "add", "x", "--hub", "a/b").stderr == "Error: name: too long\n"


def test_nobody_there(run, home):
    (home / "credentials.toml").write_text('url = "http://127.0.0.1:9"\nproject_key = "sk-x"\n')
    result = run("models", "list")
    assert result.exit_code == 3
    assert "Cannot connect to http://127.0.0.1:9" in result.stderr
    assert "skerry up" in result.stderr


def test_no_key(run, home):
    (home / "credentials.toml").unlink()
    result = run("models", "list")
    assert result.exit_code == 4
    assert "There is no API key" in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["models", "add", "x"], "--path, --hub and --upstream"),
        (["models", "add", "x", "--path", "a", "--hub", "b"], "--path, --hub and --upstream"),
        (["models", "add", "x", "--hub", "b", "--upstream-key", "k"], "belong to --upstream"),
        (["models", "add", "x", "--hub", "b", "--price-prompt", "1e3"], "not a price"),
        (["keys", "create"], "--name"),
        (["keys", "create", "--name", "x", "--expires", "soon"], "--expires: 'soon' is not a time"),
        (["keys", "create", "--name", "x", "--window", "day"], "--window goes with --budget"),
        (["keys", "create", "--name", "x", "--budget", "much"], "not an amount"),
        (["keys", "create", "--name", "x", "--rpm", "0"], "--rpm"),
        (["budgets", "create", "5", "--key", "a", "--tag", "b"], "one target"),
        (["budgets", "create", "5", "--alert-at", "200%"], "not a share"),
        (["usage", "--from", "today", "--to", "yesterday"], "not before"),
        (["usage", "--from", "999999w"], "too far away"),
        (["usage", "--bucket", "year"], "--bucket"),
        (["members", "add", "a@b.no", "--role", "king"], "--role"),
        (["chat", "--json", ""], "nothing to ask"),
        (["chat", "hi", "--project", "x"], "project of its key"),
        (["whoami", "--profile", "nobody"], "no profile 'nobody'"),
        (["up", "--port", "99999"], "--port"),
        (["up", "--engine", "docker"], "--engine"),
    ],
)
def test_wrong_use(run, cloud, args, words):
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert cloud.asked == []


def test_a_broken_credentials_file_is_one_line(run, home):
    (home / "credentials.toml").write_text("url = ")
    result = run("whoami")
    assert result.exit_code == 2
    assert "credentials.toml is not valid TOML" in result.stderr


def test_an_error_cannot_drive_the_terminal(run, cloud):
    cloud.answers["GET /api/v1/models/x"] = problem(404, "x", "no \x1b]0;title\x07 such")
    assert "\x1b" not in run("models", "show", "x").stderr
