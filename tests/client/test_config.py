"""Which cloud and which key."""

import stat

import pytest

from skerry.client import Credentials, MissingKey, NotConfigured

LOCAL = """
url = "http://127.0.0.1:9000"
operator_key = "sk-operator"
project_key = "sk-project"

[profiles.work]
url = "https://work.test"
api_key = "sk-work"

[profiles.half]
url = "https://half.test"
"""


@pytest.fixture
def home(tmp_path):
    def write(content):
        (tmp_path / "credentials.toml").write_text(content)
        return {"SKERRY_HOME": str(tmp_path)}

    return write


@pytest.mark.parametrize(
    ("content", "env", "options", "expected"),
    [
        (LOCAL, {}, {}, ("http://127.0.0.1:9000", "sk-project")),
        (LOCAL, {}, {"operator": True}, ("http://127.0.0.1:9000", "sk-operator")),
        (LOCAL, {"SKERRY_API_KEY": "sk-env"}, {"operator": True}, ("http://127.0.0.1:9000", "sk-env")),
        (LOCAL, {"SKERRY_URL": "http://env.test"}, {}, ("http://env.test", "sk-project")),
        (LOCAL, {"SKERRY_API_KEY": "sk-env"}, {"profile": "work"}, ("https://work.test", "sk-work")),
        (LOCAL, {}, {"profile": "work", "operator": True}, ("https://work.test", "sk-work")),
        ("", {"SKERRY_API_KEY": "sk-env"}, {}, ("http://127.0.0.1:8080", "sk-env")),
        ('operator_key = "sk-only"', {}, {}, ("http://127.0.0.1:8080", "sk-only")),
        ('project_key = "sk-only"', {}, {"operator": True}, ("http://127.0.0.1:8080", "sk-only")),
        ('[profiles.default]\nurl="http://d"\napi_key="sk-d"', {}, {}, ("http://d", "sk-d")),
    ],
)
def test_resolution(home, content, env, options, expected):
    env = {**home(content), **env}
    found = Credentials.load(env).resolve(env, **options)
    assert (found.url, found.api_key) == expected
    assert "sk-" not in repr(found)


def test_no_key_anywhere(tmp_path):
    with pytest.raises(MissingKey):
        Credentials.load({"SKERRY_HOME": str(tmp_path)}).resolve({})


@pytest.mark.parametrize("profile", ["nobody", "half"])
def test_a_profile_that_cannot_be_used(home, profile):
    with pytest.raises(NotConfigured, match=profile):
        Credentials.load(home(LOCAL)).resolve({}, profile=profile)


def test_a_broken_file_is_named(home):
    with pytest.raises(NotConfigured, match=r"credentials\.toml is not valid TOML"):
        Credentials.load(home("url = "))


def test_a_stored_profile_keeps_the_rest_and_is_the_owners_only(home, tmp_path):
    env = home(LOCAL)
    Credentials.load(env).with_profile("new", url="http://new", api_key="sk-new").save()
    again = Credentials.load(env)
    assert again.resolve({}, profile="new").api_key == "sk-new"
    assert again.resolve({}, profile="work").api_key == "sk-work"
    assert again.resolve({}).api_key == "sk-project"
    assert stat.S_IMODE(again.path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["credentials.toml"]


def test_the_folder_is_made(tmp_path):
    env = {"SKERRY_HOME": str(tmp_path / "a" / "b")}
    Credentials.load(env).with_profile("p", url="http://p", api_key="sk-p").save()
    assert Credentials.load(env).resolve({}, profile="p").url == "http://p"
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
