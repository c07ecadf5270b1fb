"""After `preload` the server role imports nothing: where Python lies may then be closed to it."""

import json
import subprocess
import sys

from tests.server.starting import bootstrapped

SCRIPT = """
import asyncio, json, pathlib, sys, threading
from skerry.runtime import log
from skerry.server.roles import server as role
log.configure("server", "error")
role.preload()

late = []
class Closed:
    def find_spec(self, name, path=None, target=None):
        late.append(name)
        raise ImportError(f"{name} is imported late")
sys.meta_path.insert(0, Closed())

from skerry.runtime.secrets import Keyring
from skerry.runtime.settings import Settings
from skerry.server.context import RoleContext

home, url, operator, project = sys.argv[1:]
home = pathlib.Path(home)
context = RoleContext(Settings(home=home, state=home), Keyring([("k1", b"a secret of the tests")]), url)

FORM = (b'--b\\r\\ncontent-disposition: form-data; name="purpose"\\r\\n\\r\\nbatch\\r\\n--b\\r\\n'
        b'content-disposition: form-data; name="file"; filename="a"\\r\\n\\r\\n'
        b'{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"model": "m"}}\\r\\n--b--\\r\\n')

async def ask(method, path, key=None, body=None, **headers):
    reader, writer = await asyncio.open_unix_connection(context.settings.server_socket)
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    kind = "multipart/form-data; boundary=b" if isinstance(body, bytes) else "application/json"
    lines = [f"{method} {path} HTTP/1.1", "host: x", f"content-length: {len(data)}", "connection: close",
             f"content-type: {kind}"]
    if key:
        lines.append(f"authorization: Bearer {key}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write("\\r\\n".join(lines).encode() + b"\\r\\n\\r\\n" + data)
    answer = await reader.read()
    writer.close()
    return answer

async def request(*args, **headers):
    return int((await ask(*args, **headers)).split()[1])

async def files():
    answer = await ask("POST", "/v1/files", project, FORM)
    file = json.loads(answer.partition(b"\\r\\n\\r\\n")[2]).get("id") if b" 200 " in answer else answer
    return [
        await request("GET", f"/v1/files/{file}", project),
        await request("GET", f"/v1/files/{file}/content", project, range="bytes=0-5"),
        await request("DELETE", f"/v1/files/{file}", project),
        await request("POST", "/v1/files", project, FORM[:-20]),
    ]

async def main():
    serving = asyncio.create_task(role.run(context))
    while not serving.done():
        try:
            await request("GET", "/healthz")
            break
        except OSError:
            await asyncio.sleep(0.05)
    new = {"name": "robot", "scopes": ["read"], "expires_at": "2099-01-01T00:00:00Z", "models": ["a"],
           "limits": {"requests_per_minute": 5}}
    found = [
        await request("GET", "/api/v1/whoami", project),
        await request("GET", "/api/v1/whoami"),
        await request("POST", "/api/v1/api-keys", project, new, idempotency_key="1"),
        await request("POST", "/api/v1/api-keys", project, new, idempotency_key="1"),
        await request("POST", "/api/v1/api-keys", project, {"name": "x"}),
        await request("POST", "/api/v1/projects", project, {"name": "lab", "jurisdictions": ["NO"]}),
        await request("POST", "/api/v1/members", project, {"email": "ada@example.org", "role": "owner"}),
        await request("POST", "/api/v1/organizations", project, {"name": "Acme"}),
        await request("GET", "/api/v1/events?limit=2", project),
        await request("GET", "/api/v1/audit-events/verify", project),
        await request("GET", "/api/v1/nodes", operator),
        await request("POST", "/api/v1/models", operator, {"name": "far", "source": {"upstream": "http://127.0.0.1:9/v1"}}),
        await request("GET", "/v1/models", project),
        await request("GET", "/v1/models/near", project),
        await request("GET", "/api/v1/endpoints", project),
        await request("GET", "/api/v1/capacity/availability", project),
        await request("POST", "/api/v1/quotes", project, {"sku": "none", "nodes": 1, "duration_seconds": 3600}),
        await request("GET", "/api/v1/usage?group_by=model", project),
        await request("GET", "/api/v1/workloads", project),
        await request("GET", "/api/v1/costs?bucket=day", project),
        await request("GET", "/api/v1/prices", project),
        await request("GET", "/api/v1/budgets", project),
        await request("GET", "/api/v1/api-keys?after=nonsense", project),
        await request("PUT", "/api/v1/api-keys", project),
        await request("GET", "/readyz", operator),
        await request("GET", "/metrics", operator),
        await request("GET", "/openapi.json"),
        await request("GET", "/docs"),
        await request("GET", "/nowhere"),
    ]
    found += await files()
    context.stopping.set()
    await serving
    print(json.dumps({"late": late, "found": found}))

asyncio.run(main())
"""


def test_nothing_is_imported_after_preload(settings, database_url):
    made = bootstrapped(settings, database_url)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(settings.home), database_url, made.operator_key,
         made.project_key],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["late"] == []
    statuses = " ".join(str(status) for status in answer["found"])
    assert statuses == (
        "200 401 201 201 422 201 201 403 200 200 200 201 200 404 200 200 422 200 200 200 200 200 400 405 503 200 200 "
        "200 404 200 206 200 400"
    )
