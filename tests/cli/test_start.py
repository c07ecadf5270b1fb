"""What the command line imports, starts and completes."""

import json
import os
import subprocess
import sys

import pytest

from skerry.cli.catalog import ENTRIES
from skerry.cli.commands import run as running
from skerry.cli.commands import status as status_command
from skerry.cli.lazy import RootGroup

HEAVY = ("httpx", "pydantic", "fastapi", "sqlalchemy", "rich", "asyncio", "skerry.client", "skerry.server")


def skerry(*args, **env):
    environ = {**os.environ, **env}
    return subprocess.run([sys.executable, "-m", "skerry.cli", *args], capture_output=True, text=True, env=environ)


def modules_after(*args):
    script = (
        "import contextlib, io, sys\n"
        "from skerry.cli.main import main\n"
        f"sys.argv = ['skerry', *{list(args)!r}]\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main()\n"
        "print('\\n'.join(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("args", [["--help"], ["--version"]])
def test_help_imports_nothing_heavy(args):
    assert modules_after(*args).isdisjoint(HEAVY)


@pytest.mark.parametrize("command", ["up", "status", "down"])
def test_commands_for_this_machine_do_not_import_the_client(command):
    assert modules_after(command, "--help").isdisjoint({"httpx", "skerry.client", "fastapi", "sqlalchemy"})


def test_no_command_imports_the_server():
    loaded = modules_after("models", "list", "--help")
    assert "httpx" in loaded
    assert not any(name.startswith(("skerry.server", "skerry.kernel", "sqlalchemy", "fastapi")) for name in loaded)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=lambda entry: entry.name)
def test_the_catalogue_says_what_the_commands_say(entry):
    group = RootGroup(name="skerry")
    command = group.get_command(None, entry.name)
    assert command is not None
    assert (command.help or "").splitlines()[0] == entry.help
    assert command.hidden == entry.hidden or entry.noun


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=lambda entry: entry.name)
def test_every_command_has_help(run, entry, monkeypatch):
    monkeypatch.setattr(os, "execv", lambda *args: None)
    assert run(entry.name, "--help").exit_code == 0


def test_version():
    done = skerry("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("skerry ")


def test_completion_offers_commands_without_importing_them():
    done = skerry(_SKERRY_COMPLETE="complete_bash", COMP_WORDS="skerry mo", COMP_CWORD="1", PYTHONVERBOSE="1")
    assert done.stdout == "models\n"
    assert "import 'skerry.cli.lazy'" in done.stderr
    assert "import 'skerry.cli.commands" not in done.stderr


def test_completion_goes_on_inside_a_command():
    done = skerry(_SKERRY_COMPLETE="complete_bash", COMP_WORDS="skerry models re", COMP_CWORD="2")
    assert done.stdout == "remove\n"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["up"], ["up"]),
        (
            ["up", "--port", "9000", "--host", "0.0.0.0", "--detach", "--engine", "slurm", "--virtual-nodes", "4"],
            ["up", "--port", "9000", "--host", "0.0.0.0", "--engine", "slurm", "--virtual-nodes", "4", "--detach"],
        ),
        (["down"], ["down"]),
        (["down", "--json"], ["down", "--json"]),
        (["gateway", "--port", "9000", "--help"], ["gateway", "--port", "9000", "--help"]),
        (["controller"], ["controller"]),
    ],
)
def test_roles_become_the_server(run, monkeypatch, args, expected):
    became = []
    monkeypatch.setattr(running.os, "execv", lambda path, argv: became.append((path, argv)))
    run(*args)
    assert became == [(sys.executable, [sys.executable, "-m", "skerry.server", *expected])]


STATUS = {
    "url": "http://127.0.0.1:8080",
    "version": "0.1.0",
    "ready": False,
    "reasons": {"engine": "it does not answer"},
    "processes": [
        {"role": "gateway", "pid": 12, "status": "running"},
        {"role": "replica", "pid": None, "status": "starting", "reason": "loading weights", "resource": "rep_1"},
    ],
}


class TestStatus:
    @pytest.fixture
    def server_says(self, monkeypatch):
        def says(stdout, code=0, stderr=""):
            answer = subprocess.CompletedProcess([], code, stdout, stderr)
            asked = []
            monkeypatch.setattr(status_command.subprocess, "run", lambda argv, **options: asked.append(argv) or answer)
            return asked

        return says

    def test_it_is_a_table(self, run, server_says):
        asked = server_says(json.dumps(STATUS), 1)
        result = run("status")
        assert asked == [[sys.executable, "-m", "skerry.server", "status", "--json"]]
        assert result.exit_code == 1
        assert "http://127.0.0.1:8080 is not ready" in result.stderr
        assert "engine: it does not answer" in result.stderr
        assert result.stdout.splitlines() == [
            "role     pid  status    resource  reason",
            "gateway   12  running",
            "replica    –  starting  rep_1     loading weights",
        ]

    def test_json_is_handed_through(self, run, server_says):
        server_says(json.dumps(STATUS))
        assert json.loads(run("status", "--json").stdout) == STATUS

    def test_nothing_runs(self, run, server_says):
        server_says('{"url": null, "ready": false, "processes": []}', 3)
        result = run("status")
        assert (result.exit_code, result.stdout) == (3, "")
        assert "skerry up" in result.stderr

    def test_a_server_that_cannot_tell(self, run, server_says):
        server_says("", 1, "Traceback …\nRuntimeError: the data folder is gone\n")
        result = run("status")
        assert result.exit_code == 1
        assert "RuntimeError: the data folder is gone" in result.stderr


def test_bugs_are_one_line_unless_debugging():
    broken = (
        "from skerry.cli import lazy, main\n"
        "lazy.import_module = None\n"
        "main.sys.argv = ['skerry', 'whoami']\n"
        "main.main()\n"
    )

    def crash(**more):
        return subprocess.run(
            [sys.executable, "-c", broken], capture_output=True, text=True, env={**os.environ, **more}
        )

    quiet, loud = crash(), crash(SKERRY_DEBUG="1")
    assert quiet.returncode == 1
    assert quiet.stderr.startswith("Error: TypeError")
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr
