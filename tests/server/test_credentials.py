"""`credentials.toml`: what the first start leaves, and what happens when it is lost."""

import tomllib

from skerry.server import credentials
from skerry.server.credentials import FILE, ensure

URL = "http://127.0.0.1:8080"


async def test_the_first_start_writes_working_keys_for_their_owner_alone(services, settings):
    made = await ensure(services.identity, settings.home, URL)
    path = settings.home / FILE
    assert path.stat().st_mode & 0o777 == 0o600 and made.note == ""
    content = tomllib.loads(path.read_text())
    assert set(content) == {"url", "operator_key", "project_key"} and content["url"] == URL
    assert (await services.identity.authenticate(content["operator_key"])).operator
    project = await services.identity.authenticate(content["project_key"])
    assert {str(scope) for scope in project.scopes} == {"inference", "read", "write", "billing"}
    assert [file.name for file in settings.home.iterdir() if "credentials" in file.name] == [FILE]


async def test_later_starts_change_nothing_but_the_address(services, settings):
    first = await ensure(services.identity, settings.home, URL)
    before = (settings.home / FILE).stat().st_ino
    assert (await ensure(services.identity, settings.home, URL)) == first
    assert (settings.home / FILE).stat().st_ino == before
    moved = await ensure(services.identity, settings.home, "http://127.0.0.1:9090")
    assert moved.credentials.project_key == first.credentials.project_key and moved.note == ""
    assert credentials.read(settings.home) == moved.credentials


async def test_a_lost_file_is_made_anew_with_new_keys_and_says_so(services, settings):
    first = (await ensure(services.identity, settings.home, URL)).credentials
    (settings.home / FILE).unlink()
    second = await ensure(services.identity, settings.home, URL)
    assert "was missing" in second.note and "operator_key and project_key" in second.note
    assert second.credentials.project_key != first.project_key
    for secret in (first.project_key, second.credentials.project_key):
        await services.identity.authenticate(secret)


async def test_only_the_key_that_no_longer_works_is_replaced(services, settings):
    first = (await ensure(services.identity, settings.home, URL)).credentials
    owner = await services.identity.authenticate(first.project_key)
    await services.identity.revoke_key(owner, owner.key_id)
    second = await ensure(services.identity, settings.home, URL)
    assert "new project_key" in second.note
    assert second.credentials.operator_key == first.operator_key
    await services.identity.authenticate(second.credentials.project_key)


async def test_a_broken_file_is_replaced_and_profiles_are_kept(services, settings):
    (settings.home / FILE).write_text("not = [toml")
    assert credentials.read(settings.home) is None
    made = await ensure(services.identity, settings.home, URL)
    with (settings.home / FILE).open("a") as file:
        file.write('\n[profiles.other]\nurl = "https://elsewhere"\napi_key = "sk-x"\n')
    await ensure(services.identity, settings.home, "http://127.0.0.1:9090")
    content = tomllib.loads((settings.home / FILE).read_text())
    assert content["profiles"]["other"]["url"] == "https://elsewhere"
    assert content["project_key"] == made.credentials.project_key


def test_secrets_are_not_in_the_repr():
    assert "sk-" not in repr(credentials.Credentials(URL, "sk-a", "sk-b"))
