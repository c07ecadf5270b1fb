"""Commands that change something."""

import json
import stat
import tomllib

import pytest

from tests.cli.fake_cloud import KEY, MODEL, OPERATOR_KEY, PROJECT_KEY, problem

CREATED = (201, {**KEY, "key": "sk-new-secret"})
BUDGET = (201, {"id": "bud_1", "limit": {"amount": "10.00", "currency": "EUR"}, "window": "day"})
BOOK = (200, {"version": 1, "currency": "EUR", "prices": []})


def test_a_new_key_prints_its_secret_alone(run, cloud):
    cloud.answers["POST /api/v1/api-keys"] = CREATED
    result = run("keys", "create", "--name", "ci", "--scope", "inference,read", "--model", "tiny", "--rpm", "60")
    assert result.stdout == "sk-new-secret\n"
    assert "shown this once" in result.stderr
    [asked] = cloud.of("/api/v1/api-keys")
    assert asked.body == {
        "name": "ci",
        "scopes": ["inference", "read"],
        "models": ["tiny"],
        "limits": {"requests_per_minute": 60},
    }
    assert asked.key == PROJECT_KEY


def test_a_secret_that_was_lost_on_the_way_is_no_success(run, cloud):
    cloud.answers["POST /api/v1/api-keys"] = (201, {**KEY, "key": None})
    result = run("keys", "create", "--name", "ci")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"skerry keys rotate {KEY['id']}" in result.stderr


def test_a_key_expires_when_it_is_told(run, cloud):
    cloud.answers["POST /api/v1/api-keys"] = CREATED
    assert run("keys", "create", "--name", "ci", "--expires", "2030-01-01", "--json").exit_code == 0
    assert cloud.of("/api/v1/api-keys")[0].body["expires_at"] == "2030-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("args", "limits", "budget"),
    [
        (["--budget", "10.00USD"], {"budget": {"amount": "10.00", "currency": "USD"}}, None),
        (["--budget", "10.00"], {"budget": {"amount": "10.00", "currency": "EUR"}}, None),
        (
            ["--budget", "10.00", "--window", "day"],
            None,
            {"target": {"key": KEY["id"]}, "limit": {"amount": "10.00", "currency": "EUR"}, "window": "day"},
        ),
    ],
)
def test_a_key_with_a_budget(run, cloud, args, limits, budget):
    cloud.answers |= {"POST /api/v1/api-keys": CREATED, "POST /api/v1/budgets": BUDGET, "GET /api/v1/prices": BOOK}
    assert run("keys", "create", "--name", "ci", *args).exit_code == 0
    assert cloud.of("/api/v1/api-keys")[0].body.get("limits") == limits
    assert [asked.body for asked in cloud.of("/api/v1/budgets")] == ([budget] if budget else [])


def test_rotate_and_revoke(run, cloud):
    cloud.answers |= {"POST /api/v1/api-keys/key_1/rotate": CREATED, "DELETE /api/v1/api-keys/key_1": (204, None)}
    assert run("keys", "rotate", "key_1", "--grace", "1h").stdout == "sk-new-secret\n"
    assert cloud.asked[-1].body == {"grace_seconds": 3600}
    assert json.loads(run("keys", "revoke", "key_1", "--yes", "--json").stdout)["status"] == "revoked"


@pytest.mark.parametrize("command", [["keys", "revoke", "k"], ["models", "remove", "m"], ["budgets", "delete", "b"]])
def test_without_anybody_to_ask_yes_must_be_said(run, cloud, command):
    result = run(*command)
    assert (result.exit_code, cloud.asked) == (2, [])
    assert "--yes" in result.stderr


@pytest.mark.parametrize(
    ("args", "body"),
    [
        (["--path", "/models/x"], {"source": {"path": "/models/x"}}),
        (["--hub", "org/x", "--context", "4096"], {"source": {"hub": "org/x"}, "context_length": 4096}),
        (
            ["--upstream", "http://u/v1", "--upstream-key", "k", "--upstream-model", "big"],
            {"source": {"upstream": "http://u/v1", "upstream_key": "k", "upstream_model": "big"}},
        ),
        (
            ["--upstream", "http://u/v1", "--price-prompt", "0.10", "--price-completion", "0.40"],
            {"source": {"upstream": "http://u/v1"}, "price": {"prompt": "0.10", "completion": "0.40"}},
        ),
    ],
)
def test_models_are_added_by_the_operator(run, cloud, args, body):
    cloud.answers["POST /api/v1/models"] = (201, MODEL)
    result = run("models", "add", "tiny", "--no-wait", *args)
    assert result.exit_code == 0, result.stderr
    [asked] = cloud.of("/api/v1/models")
    assert asked.body == {"name": "tiny", **body}
    assert asked.key == OPERATOR_KEY
    assert "idempotency-key" in asked.headers


def test_an_upstream_key_can_come_from_stdin(run, cloud):
    cloud.answers["POST /api/v1/models"] = (201, MODEL)
    run("models", "add", "tiny", "--upstream", "http://u", "--upstream-key-stdin", input="secret\n")
    assert cloud.of("/api/v1/models")[0].body["source"]["upstream_key"] == "secret"


def test_adding_waits_until_the_endpoint_serves(run, cloud):
    states = iter(
        [problem(404, "not_found", "not yet"), *((200, {"id": "ep", "status": s}) for s in ("starting", "ready"))]
    )
    cloud.answers |= {"POST /api/v1/models": (201, MODEL), "GET /api/v1/endpoints/tiny": lambda asked: next(states)}
    result = run("models", "add", "tiny", "--path", "/x", "--json")
    assert json.loads(result.stdout) == MODEL
    assert len(cloud.of("/api/v1/endpoints/tiny")) == 3
    assert "tiny is starting" in result.stderr


def test_a_model_that_fails_to_load_fails_the_command(run, cloud):
    failed = {"id": "ep", "status": "failed", "status_reason": {"code": "bad_weights", "message": "not a GGUF file"}}
    cloud.answers |= {"POST /api/v1/models": (201, MODEL), "GET /api/v1/endpoints/tiny": (200, failed)}
    result = run("models", "add", "tiny", "--path", "/x")
    assert result.exit_code == 1
    assert "Error: tiny is failed: not a GGUF file" in result.stderr


def test_waiting_has_an_end(run, cloud):
    starting = (200, {"id": "ep", "status": "starting"})
    cloud.answers |= {"POST /api/v1/models": (201, MODEL), "GET /api/v1/endpoints/tiny": starting}
    result = run("models", "add", "tiny", "--path", "/x", "--timeout", "0")
    assert result.exit_code == 1
    assert "After 0 s, tiny is starting" in result.stderr


def test_removing_a_model(run, cloud):
    cloud.answers["DELETE /api/v1/models/tiny"] = (204, None)
    assert run("models", "remove", "tiny", "--yes").exit_code == 0
    assert cloud.asked[-1].key == OPERATOR_KEY


def test_a_budget_is_for_the_project_unless_said(run, cloud):
    cloud.answers |= {
        "POST /api/v1/budgets": BUDGET,
        "GET /api/v1/prices": BOOK,
        "DELETE /api/v1/budgets/bud_1": (204, None),
    }
    run("budgets", "create", "10", "--alert-at", "80%,1")
    run("budgets", "create", "10USD", "--tag", "team=a", "--window", "total")
    assert run("budgets", "delete", "bud_1", "-y").exit_code == 0
    assert [asked.body for asked in cloud.of("/api/v1/budgets")] == [
        {
            "target": {"project": "proj_1"},
            "limit": {"amount": "10", "currency": "EUR"},
            "window": "month",
            "alert_at": [0.8, 1.0],
        },
        {"target": {"tag": "team=a"}, "limit": {"amount": "10", "currency": "USD"}, "window": "total"},
    ]


def test_projects_and_members(run, cloud):
    cloud.answers |= {
        "POST /api/v1/projects": (201, {"id": "proj_2", "name": "lab"}),
        "POST /api/v1/members": (201, {"id": "mem_1", "email": "a@b.no", "role": "viewer"}),
    }
    assert "proj_2" in run("projects", "create", "lab", "--jurisdiction", "NO,EU").stderr
    assert run("members", "add", "a@b.no", "--role", "viewer").exit_code == 0
    assert cloud.of("/api/v1/projects")[0].body == {"name": "lab", "jurisdictions": ["NO", "EU"]}
    assert cloud.of("/api/v1/members")[0].body == {"email": "a@b.no", "role": "viewer"}


def test_another_organization_needs_the_operators_key(run, cloud):
    cloud.answers["POST /api/v1/members"] = (201, {"id": "mem_1", "email": "a@b.no", "role": "member"})
    assert run("members", "add", "a@b.no", "--organization", "acme").exit_code == 0
    assert (cloud.asked[0].key, cloud.asked[0].query) == (OPERATOR_KEY, {"organization": "acme"})


def test_another_project_needs_the_operators_key(run, cloud):
    cloud.answers["GET /api/v1/models"] = (200, {"data": [], "next_cursor": None})
    run("models", "list", "--project", "acme/lab")
    assert (cloud.asked[0].key, cloud.asked[0].query["project"]) == (OPERATOR_KEY, "acme/lab")


class TestLogin:
    def test_it_checks_and_stores_a_profile(self, run, cloud, home):
        result = run("login", cloud.url, "--profile", "work", "--api-key-stdin", input="sk-work\n")
        assert result.exit_code == 0, result.stderr
        assert "demo/default" in result.stderr
        stored = tomllib.loads((home / "credentials.toml").read_text())
        assert stored["profiles"]["work"] == {"url": cloud.url, "api_key": "sk-work"}
        assert stored["project_key"] == PROJECT_KEY
        assert stat.S_IMODE((home / "credentials.toml").stat().st_mode) == 0o600
        assert cloud.of("/api/v1/whoami")[0].key == "sk-work"

    @pytest.mark.parametrize("args", [["--profile", "work", "whoami"], ["whoami", "--profile", "work"]])
    def test_the_profile_is_used_wherever_it_is_said(self, run, cloud, args):
        run("login", cloud.url, "--profile", "work", "--api-key-stdin", input="sk-work\n")
        assert run(*args).exit_code == 0
        assert cloud.asked[-1].key == "sk-work"
        assert run("whoami", SKERRY_PROFILE="work").exit_code == 0
        assert cloud.asked[-1].key == "sk-work"

    def test_a_key_that_does_not_work_is_not_stored(self, run, cloud, home):
        cloud.answers["GET /api/v1/whoami"] = problem(401, "unknown_key", "This key is not known.")
        before = (home / "credentials.toml").read_text()
        result = run("login", cloud.url, "--api-key-stdin", input="sk-wrong\n")
        assert (result.exit_code, (home / "credentials.toml").read_text()) == (4, before)

    def test_json_has_no_key(self, run, cloud):
        result = run("login", cloud.url, "--api-key-stdin", "--json", input="sk-work\n")
        assert json.loads(result.stdout)["profile"] == "default"
        assert "sk-work" not in result.stdout

    @pytest.mark.parametrize(("args", "input"), [([], ""), (["--api-key-stdin"], "\n")])
    def test_without_a_key_it_is_wrong_use(self, run, args, input):
        assert run("login", *args, input=input).exit_code == 2

    def test_environment_keys_override_the_file(self, run, cloud):
        run("whoami", SKERRY_API_KEY="sk-env", SKERRY_URL=cloud.url)
        assert cloud.asked[-1].key == "sk-env"
