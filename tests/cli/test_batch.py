"""`skerry files` and `skerry batch`."""

import json

import pytest

from tests.cli.fake_cloud import listed, problem

FILE = {
    "id": "file-1",
    "filename": "a.jsonl",
    "purpose": "batch",
    "bytes": 2048,
    "created_at": 1767225600,
    "status": "processed",
    "sha256": "ab",
}
COUNTS = {"total": 3, "completed": 2, "failed": 1}
BATCH = {
    "id": "batch_1",
    "endpoint": "/v1/chat/completions",
    "status": "completed",
    "input_file_id": "file-1",
    "output_file_id": "file-2",
    "error_file_id": "file-3",
    "request_counts": COUNTS,
    "skerry": {"cost": "0.0000123", "currency": "EUR"},
    "created_at": 1767225600,
}
ESTIMATE = {
    "rows": 3,
    "models": {"tiny": 3},
    "unknown_models": [],
    "highest_cost": {"amount": "0.5", "currency": "EUR"},
    "errors": None,
}
ROW = {"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {"model": "tiny", "input": "x"}}


def listing(*items):
    return 200, {"object": "list", "data": list(items), "has_more": False, "first_id": None, "last_id": None}


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n" + json.dumps(ROW) + "\n")
    return path


@pytest.fixture
def batches(cloud):
    """A cloud where each batch is completed as soon as it is made."""
    cloud.answers |= {
        "POST /v1/files": (200, FILE),
        "DELETE /v1/files/file-1": (200, {"id": "file-1", "deleted": True}),
        "POST /v1/batches": lambda asked: (200, ESTIMATE if asked.query.get("dry_run") else BATCH),
        "GET /v1/batches/batch_1": (200, BATCH),
        "GET /v1/files/file-2/content": (200, b'{"custom_id": "1"}\n'),
        "GET /v1/files/file-3/content": (200, b'{"custom_id": "2"}\n'),
    }
    return cloud


class TestFiles:
    def test_uploading_prints_the_id(self, run, cloud, source):
        cloud.answers["POST /v1/files"] = (200, FILE)
        result = run("files", "upload", str(source), "--expires", "2h")
        assert (result.stdout, result.exit_code) == ("file-1\n", 0)
        [asked] = cloud.of("/v1/files")
        assert source.read_bytes() in asked.body
        assert b"7200" in asked.body

    def test_a_refused_line_is_named(self, run, cloud, source):
        words = {"error": {"message": "Line 2: it is not JSON.", "code": "invalid_json_line", "param": "file"}}
        cloud.answers["POST /v1/files"] = (400, words)
        result = run("files", "upload", str(source))
        assert (result.exit_code, result.stderr) == (1, "Error: Line 2: it is not JSON.\n")

    def test_list_and_show(self, run, cloud):
        cloud.answers |= {"GET /v1/files": listing(FILE), "GET /v1/files/file-1": (200, FILE)}
        header, row = run("files", "list", "--purpose", "batch").stdout.splitlines()
        assert header.split() == ["id", "name", "purpose", "size", "created"]
        assert row.split()[:5] == ["file-1", "a.jsonl", "batch", "2.0", "KiB"]
        assert json.loads(run("files", "list", "--json").stdout)["data"] == [FILE]
        assert "sha256   ab" in run("files", "show", "file-1").stdout

    def test_nothing_there(self, run, cloud):
        cloud.answers["GET /v1/files"] = listing()
        assert run("files", "list").stderr.startswith("There are no files")

    def test_getting_writes_it_whole_or_not_at_all(self, run, cloud, tmp_path):
        cloud.answers["GET /v1/files/file-1/content"] = (200, b"\x00\xff")
        target = tmp_path / "out.bin"
        assert run("files", "get", "file-1", "-o", str(target)).exit_code == 0
        assert target.read_bytes() == b"\x00\xff"
        cloud.answers["GET /v1/files/file-1/content"] = problem(503, "content_lost", "Its bytes are gone.")
        target.unlink()
        assert run("files", "get", "file-1", "-o", str(target)).exit_code == 1
        assert list(tmp_path.glob("*out.bin*")) == []

    def test_getting_to_stdout_is_the_bytes_alone(self, run, cloud):
        cloud.answers["GET /v1/files/file-1/content"] = (200, b"\x00\xff")
        assert run("files", "get", "file-1").stdout_bytes == b"\x00\xff"

    def test_removing_needs_a_yes(self, run, cloud):
        cloud.answers["DELETE /v1/files/file-1"] = (200, {"id": "file-1", "deleted": True})
        assert run("files", "remove", "file-1").exit_code == 2
        assert run("files", "remove", "file-1", "--yes").exit_code == 0


class TestCreate:
    def test_it_uploads_shows_the_ceiling_and_prints_the_id(self, run, batches, source):
        result = run("batch", "create", str(source), "--yes", "--metadata", "team=a")
        assert (result.stdout, result.exit_code) == ("batch_1\n", 0)
        assert "3 requests (3 to tiny), at most 0.5 EUR." in result.stderr
        dry, real = batches.of("/v1/batches")
        # What the rows ask is read from the first of them.
        wanted = {"input_file_id": "file-1", "endpoint": "/v1/embeddings", "completion_window": "24h"}
        assert dry.body == real.body == {**wanted, "metadata": {"team": "a"}}
        assert dry.query == {"dry_run": "true"}

    def test_without_a_yes_nothing_is_left_behind(self, run, batches, source):
        assert run("batch", "create", str(source)).exit_code == 2
        assert [asked.method for asked in batches.asked] == ["POST", "POST", "DELETE"]
        assert len(batches.of("/v1/batches")) == 1

    def test_a_file_that_is_there_already_is_not_sent_nor_deleted(self, run, batches):
        assert run("batch", "create", "file-1", "--endpoint", "/v1/completions").exit_code == 2
        assert [asked.path for asked in batches.asked] == ["/v1/batches"]
        assert run("batch", "create", "file-1").exit_code == 2

    def test_lines_that_are_wrong_fail_it(self, run, batches, source):
        errors = {"data": [{"code": "x", "message": "no model", "line": 2}]}
        batches.answers["POST /v1/batches"] = (200, {**ESTIMATE, "errors": errors})
        result = run("batch", "create", str(source), "--yes")
        assert result.exit_code == 1
        assert "  line 2: no model" in result.stderr
        assert batches.asked[-1].method == "DELETE"

    def test_models_nobody_serves_are_said(self, run, batches, source):
        batches.answers["POST /v1/batches"] = lambda asked: (
            200,
            {**ESTIMATE, "unknown_models": ["huge"]} if asked.query.get("dry_run") else BATCH,
        )
        assert "Nobody serves huge" in run("batch", "create", str(source), "--yes").stderr

    def test_a_file_that_is_not_there(self, run, cloud, tmp_path):
        result = run("batch", "create", str(tmp_path / "none.jsonl"))
        assert (result.exit_code, cloud.asked) == (2, [])
        assert "cannot be read" in result.stderr

    def test_waiting_follows_it_to_its_end(self, run, batches, source):
        states = iter([{"status": "validating"}, {"status": "in_progress"}, {}])
        batches.answers["GET /v1/batches/batch_1"] = lambda asked: (200, {**BATCH, **next(states)})
        result = run("batch", "create", str(source), "--yes", "--wait")
        assert (result.stdout, result.exit_code) == ("batch_1\n", 0)
        assert "batch_1 is in_progress" in result.stderr
        assert "2 of 3 answered, 1 refused, 0.0000123 EUR" in result.stderr


class TestAfter:
    @pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("expired", 1), ("cancelled", 1)])
    def test_wait_ends_as_the_batch_has(self, run, batches, status, code):
        reason = {"code": "x", "message": "That is why."}
        batches.answers["GET /v1/batches/batch_1"] = (200, {**BATCH, "status": status, "status_reason": reason})
        result = run("batch", "wait", "batch_1", "--json")
        assert (result.exit_code, json.loads(result.stdout)["status"]) == (code, status)
        assert ("That is why." in result.stderr) == bool(code)

    def test_wait_can_have_an_end(self, run, batches):
        batches.answers["GET /v1/batches/batch_1"] = (200, {**BATCH, "status": "in_progress"})
        result = run("batch", "wait", "batch_1", "--timeout", "0")
        assert result.exit_code == 1
        assert "not done after 0 s" in result.stderr

    def test_results_go_to_stdout_or_a_file(self, run, batches, tmp_path):
        result = run("batch", "results", "batch_1")
        assert result.stdout == '{"custom_id": "1"}\n'
        assert "1 rows were refused" in result.stderr
        target = tmp_path / "out.jsonl"
        assert run("batch", "results", "batch_1", "-o", str(target), "--errors").exit_code == 0
        assert target.read_text() == '{"custom_id": "2"}\n'

    @pytest.mark.parametrize(
        ("change", "args", "words"),
        [
            ({"status": "in_progress"}, [], "skerry batch wait batch_1"),
            ({"output_file_id": None}, [], "--errors shows why"),
            ({"error_file_id": None}, ["--errors"], "no rows that were refused"),
        ],
    )
    def test_results_that_are_not_there(self, run, batches, change, args, words):
        batches.answers["GET /v1/batches/batch_1"] = (200, {**BATCH, **change})
        result = run("batch", "results", "batch_1", *args)
        assert (result.exit_code, result.stdout) == (1, "")
        assert words in result.stderr

    def test_list_show_and_cancel(self, run, batches):
        batches.answers |= {"GET /v1/batches": listing(BATCH), "POST /v1/batches/batch_1/cancel": (200, BATCH)}
        header, row = run("batch", "list").stdout.splitlines()
        assert header.split() == ["id", "endpoint", "status", "answered", "refused", "cost", "created"]
        assert row.split()[:6] == ["batch_1", "/v1/chat/completions", "completed", "3/3", "1", "0.0000123"]
        assert "2 of 3, 1 refused" in run("batch", "show", "batch_1").stdout
        assert json.loads(run("batch", "cancel", "batch_1", "--json").stdout) == BATCH
        batches.answers["GET /v1/batches"] = listing()
        assert run("batch", "list").stderr.startswith("There are no batches")


def test_another_project_is_not_reached_this_way(run, cloud):
    cloud.answers["GET /v1/files"] = listed()
    result = run("files", "list", "--project", "lab")
    assert (result.exit_code, cloud.asked) == (2, [])
    assert "project of its key" in result.stderr
