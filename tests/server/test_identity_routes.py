"""Identity over HTTP."""


async def test_whoami_names_key_project_and_organization(operator, customer):
    mine = (await customer.get("/api/v1/whoami")).json()
    assert (mine["key_name"], mine["project"], mine["organization"]) == ("default", "default", "demo")
    assert set(mine["scopes"]) == {"inference", "read", "write", "billing"} and not mine["operator"]
    theirs = (await operator.get("/api/v1/whoami")).json()
    assert (theirs["key_name"], theirs["project"], theirs["organization"]) == ("operator", "platform", "operator")
    assert (await operator.get("/api/v1/whoami?project=default")).json()["project"] == "default"


async def test_a_key_is_shown_once(cloud, customer):
    made = await customer.post("/api/v1/api-keys", json={"name": "robot", "scopes": ["read"]})
    assert made.status_code == 201
    key = made.json()
    assert key["key"].startswith("sk-") and key["last4"] == key["key"][-4:] and key["status"] == "active"
    again = (await customer.get(f"/api/v1/api-keys/{key['id']}")).json()
    assert "key" not in again and again["name"] == "robot"
    async with cloud.client(key["key"]) as robot:
        assert (await robot.get("/api/v1/whoami")).json()["key_id"] == key["id"]


async def test_a_key_keeps_what_it_was_given(customer):
    body = {
        "name": "robot",
        "scopes": ["inference", "read"],
        "models": ["b", "a"],
        "expires_at": "2027-01-01T02:00:00+02:00",
        "limits": {"requests_per_minute": 10, "tokens_per_minute": 1000, "concurrent_requests": 3},
    }
    key = (await customer.post("/api/v1/api-keys", json=body)).json()
    assert key["models"] == ["a", "b"] and key["expires_at"] == "2027-01-01T00:00:00Z"
    assert key["limits"] == {
        "requests_per_minute": 10, "tokens_per_minute": 1000, "concurrent_requests": 3, "budget": None
    }  # fmt: skip
    changed = await customer.patch(f"/api/v1/api-keys/{key['id']}", json={"models": None})
    assert changed.json()["models"] is None and changed.json()["limits"] == key["limits"]


async def test_rotate_and_revoke_over_http(cloud, customer):
    key = (await customer.post("/api/v1/api-keys", json={"name": "robot", "scopes": ["read"]})).json()
    fresh = (await customer.post(f"/api/v1/api-keys/{key['id']}/rotate")).json()
    assert fresh["id"] == key["id"] and fresh["key"] != key["key"]
    async with cloud.client(key["key"]) as old, cloud.client(fresh["key"]) as new:
        assert (await old.get("/api/v1/whoami")).json()["code"] == "revoked_key"
        assert (await new.get("/api/v1/whoami")).status_code == 200
        assert (await customer.delete(f"/api/v1/api-keys/{key['id']}")).json()["status"] == "revoked"
        refused = await new.get("/api/v1/whoami")
    assert (refused.status_code, refused.json()["code"]) == (401, "revoked_key")


async def test_an_expired_key_says_so(cloud, customer, clock):
    body = {"name": "brief", "scopes": ["read"], "expires_at": "2026-01-01T01:00:00Z"}
    key = (await customer.post("/api/v1/api-keys", json=body)).json()
    clock.advance(hours=2)
    async with cloud.client(key["key"]) as client:
        refused = await client.get("/api/v1/whoami")
    assert (refused.status_code, refused.json()["code"]) == (401, "expired_key")
    assert (await customer.get(f"/api/v1/api-keys/{key['id']}")).json()["status"] == "expired"


WRONG = [
    ({"scopes": None}, "scopes"),
    ({"scopes": []}, "scopes"),
    ({"scopes": ["root"]}, "scopes.0"),
    ({"name": ""}, "name"),
    ({"name": "x\ny"}, "name"),
    ({"limit": {}}, "limit"),
    ({"expires_at": "tomorrow"}, "expires_at"),
    ({"expires_at": "2027-01-01T00:00:00"}, "expires_at"),
    ({"expires_at": "0001-01-01T00:00:00+23:00"}, "expires_at"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ({"limits": {"requests_per_minute": 0}}, "limits.requests_per_minute"),
    ({"limits": {"requests_per_minute": True}}, "limits.requests_per_minute"),
    ({"limits": {"tokens_per_minute": 10**30}}, "limits.tokens_per_minute"),
    ({"limits": {"concurrent_requests": 2**31}}, "limits.concurrent_requests"),
    ({"limits": {"budget": {"amount": "1e3", "currency": "EUR"}}}, "limits.budget.amount"),
    ({"limits": {"budget": {"amount": 1.5, "currency": "EUR"}}}, "limits.budget.amount"),
    ({"limits": {"budget": {"amount": "-1", "currency": "EUR"}}}, "limits.budget.amount"),
    ({"limits": {"budget": {"amount": "1", "currency": "euro"}}}, "limits.budget.currency"),
]


async def test_what_is_wrong_with_a_key_is_named(customer, subtests):
    for wrong, path in WRONG:
        with subtests.test(**wrong):
            refused = await customer.post("/api/v1/api-keys", json={"name": "x", "scopes": ["read"], **wrong})
            assert refused.status_code == 422
            assert [error["path"] for error in refused.json()["errors"]] == [path]


async def test_an_operator_makes_organizations_projects_and_their_keys(cloud, operator):
    assert (await operator.post("/api/v1/organizations", json={"name": "Acme Inc."})).status_code == 201
    first = (await operator.post("/api/v1/projects", json={"name": "main", "organization": "Acme Inc."})).json()
    second = (await operator.post("/api/v1/projects", json={"name": "lab", "organization": "Acme Inc."})).json()
    assert (first["home"], second["home"], first["trusted"]) == (True, False, False)
    made = await operator.post(
        "/api/v1/api-keys?project=Acme Inc./lab", json={"name": "k", "scopes": ["read", "write"]}
    )
    async with cloud.client(made.json()["key"]) as lab:
        assert (await lab.get("/api/v1/whoami")).json()["project_id"] == second["id"]
        assert [p["name"] for p in (await lab.get("/api/v1/projects")).json()["data"]] == ["lab"]
        assert (await lab.get(f"/api/v1/projects/{first['id']}")).status_code == 404
        refused = await lab.post("/api/v1/projects", json={"name": "more"})
        assert (refused.status_code, refused.json()["code"]) == (403, "home_project_required")


async def test_a_home_project_manages_its_organization(customer):
    made = await customer.post("/api/v1/projects", json={"name": "lab", "jurisdictions": ["NO", "EU"]})
    assert made.status_code == 201 and made.json()["jurisdictions"] == ["NO", "EU"]
    assert [p["name"] for p in (await customer.get("/api/v1/projects")).json()["data"]] == ["default", "lab"]
    assert (await customer.get("/api/v1/projects/lab")).json()["id"] == made.json()["id"]
    assert (await customer.post("/api/v1/projects", json={"name": "lab"})).json()["code"] == "name_taken"


async def test_only_operators_trust_a_project(customer, operator):
    refused = await customer.post("/api/v1/projects", json={"name": "lab", "trusted": True})
    assert (refused.status_code, refused.json()["code"]) == (403, "operator_required")
    refused = await customer.patch("/api/v1/projects/default", json={"trusted": False})
    assert refused.status_code == 403
    assert (await operator.patch("/api/v1/projects/default", json={"trusted": False})).json()["trusted"] is False


async def test_members_come_and_go_but_the_last_owner_stays(customer):
    owner = (await customer.post("/api/v1/members", json={"email": "Ada@Example.org", "role": "owner"})).json()
    assert owner["email"] == "ada@example.org"
    for attempt in (
        customer.delete(f"/api/v1/members/{owner['id']}"),
        customer.patch(f"/api/v1/members/{owner['id']}", json={"role": "viewer"}),
    ):
        assert (await attempt).json()["code"] == "last_owner"
    second = (await customer.post("/api/v1/members", json={"email": "bob@example.org", "role": "member"})).json()
    assert (await customer.patch(f"/api/v1/members/{second['id']}", json={"role": "owner"})).json()["role"] == "owner"
    assert (await customer.delete(f"/api/v1/members/{owner['id']}")).status_code == 200
    assert [m["email"] for m in (await customer.get("/api/v1/members")).json()["data"]] == ["bob@example.org"]
    timeline = (await customer.get(f"/api/v1/members/{second['id']}/events")).json()["data"]
    assert [event["type"] for event in timeline] == ["member.created", "member.updated"]


async def test_what_is_no_address_is_refused(customer, subtests):
    for email in ("", "ada", "ada@", "@x.org", "a b@x.org", "a@x.org\n", "a@" + "x" * 300):
        with subtests.test(email=email[:20]):
            assert (await customer.post("/api/v1/members", json={"email": email, "role": "member"})).status_code == 422


async def test_lists_come_in_pages(customer):
    for number in range(5):
        await customer.post("/api/v1/service-accounts", json={"name": f"robot-{number}"})
    seen, cursor = [], None
    for _ in range(3):
        query = {"limit": 2} | ({"after": cursor} if cursor else {})
        page = (await customer.get("/api/v1/service-accounts", params=query)).json()
        seen += [account["name"] for account in page["data"]]
        assert page["has_more"] == (page["next_cursor"] is not None)
        cursor = page["next_cursor"]
    assert seen == [f"robot-{number}" for number in range(5)] and cursor is None


async def test_the_trail_has_refusals_and_where_they_came_from(cloud, customer):
    key = (await customer.post("/api/v1/api-keys", json={"name": "reader", "scopes": ["read"]})).json()
    async with cloud.client(key["key"], **{"x-skerry-client-ip": "203.0.113.9"}) as reader:
        refused = await reader.post("/api/v1/api-keys", json={"name": "x", "scopes": ["read"]})
    assert refused.json()["code"] == "missing_scope" and "write" in refused.json()["detail"]
    events = (await customer.get("/api/v1/audit-events", params={"limit": 500})).json()["data"]
    last = events[-1]
    assert (last["key_id"], last["action"], last["outcome"]) == (key["id"], "POST /api/v1/api-keys", "refused")
    assert last["origin"] == "203.0.113.9" and last["request_id"] == refused.headers["x-request-id"]
    assert last["detail"] == {"code": "missing_scope"}


async def test_the_trail_can_be_verified(customer, operator):
    verdict = (await customer.get("/api/v1/audit-events/verify")).json()
    assert verdict["intact"] and verdict["events"] > 0 and verdict["first_break"] is None
    assert (await operator.get("/api/v1/audit-events/verify?organization=operator")).json()["intact"]
    assert (await customer.get("/api/v1/audit-events/verify?organization=operator")).status_code == 404


async def test_a_project_beside_the_home_sees_only_its_own_trail(cloud, operator, customer):
    await operator.post("/api/v1/projects", json={"name": "lab"})
    made = await operator.post("/api/v1/api-keys?project=lab", json={"name": "k", "scopes": ["read", "write"]})
    async with cloud.client(made.json()["key"]) as lab:
        await lab.post("/api/v1/service-accounts", json={"name": "robot"})
        seen = (await lab.get("/api/v1/audit-events")).json()["data"]
        assert {event["project_id"] for event in seen} == {made.json()["project_id"]}
        assert (await lab.get("/api/v1/audit-events/verify")).status_code == 403
        assert (await lab.get("/api/v1/members")).status_code == 403


async def test_references_to_projects_take_id_name_and_path(operator):
    id = (await operator.get("/api/v1/projects/default")).json()["id"]
    for ref in ("default", "demo/default", id):
        assert (await operator.get("/api/v1/whoami", params={"project": ref})).json()["project_id"] == id
    assert (await operator.get("/api/v1/api-keys?project=nowhere")).json()["code"] == "unknown_project"


async def test_an_ambiguous_project_has_to_be_named_in_full(operator):
    await operator.post("/api/v1/organizations", json={"name": "Acme"})
    await operator.post("/api/v1/projects", json={"name": "default", "organization": "Acme"})
    assert (await operator.get("/api/v1/api-keys?project=default")).json()["code"] == "ambiguous_project"
    assert (await operator.get("/api/v1/api-keys?project=Acme/default")).status_code == 200
    assert (await operator.get("/api/v1/api-keys")).status_code == 200
