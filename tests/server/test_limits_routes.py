"""Limits, tiers and content logging over HTTP."""

NONE = {"requests_per_minute": None, "tokens_per_minute": None, "concurrent_requests": None}


async def test_an_operator_limits_an_organization_and_sets_its_tier(operator, customer):
    path = "/api/v1/organizations/demo"
    assert (await operator.get(path)).json()["limits"] == NONE
    body = {"limits": {"requests_per_minute": 60, "concurrent_requests": 4}, "tier": "free"}
    changed = (await operator.patch(path, json=body)).json()
    assert changed["limits"] == {**NONE, "requests_per_minute": 60, "concurrent_requests": 4}
    assert changed["tier"] == "free"
    again = (await operator.patch(path, json={"tier": "standard"})).json()
    assert (again["limits"], again["tier"]) == (changed["limits"], "standard")
    assert (await operator.patch(path, json={"limits": None})).json()["limits"] == NONE
    assert (await customer.patch(path, json=body)).status_code == 403


async def test_a_project_s_settings_are_changed_by_patch(customer):
    project = (await customer.get("/api/v1/projects/default")).json()
    assert (project["limits"], project["log_content"]) == (NONE, False)
    path = f"/api/v1/projects/{project['id']}"
    body = {"limits": {"tokens_per_minute": 1000}, "log_content": True}
    changed = (await customer.patch(path, json=body)).json()
    assert (changed["limits"], changed["log_content"]) == ({**NONE, "tokens_per_minute": 1000}, True)
    unchanged = (await customer.patch(path, json={})).json()
    assert unchanged == changed == (await customer.get(path)).json()


async def test_wrong_limits_name_their_field(customer, operator):
    for client, path in ((customer, "/api/v1/projects/default"), (operator, "/api/v1/organizations/demo")):
        for body, field in (
            ({"limits": {"requests_per_minute": 0}}, "limits.requests_per_minute"),
            ({"limits": {"concurrent_requests": 1.5}}, "limits.concurrent_requests"),
            ({"limits": {"budget": 1}}, "limits.budget"),
            ({"tire": "free"}, "tire"),
        ):
            refused = await client.patch(path, json=body)
            assert refused.status_code == 422, (path, body)
            assert refused.json()["errors"][0]["path"] == field


async def test_refused_changes_say_what_to_do(customer, operator):
    renamed = await customer.patch("/api/v1/projects/default", json={"name": "other"})
    assert (renamed.status_code, renamed.json()["code"]) == (409, "built_in_project")
    content = await operator.patch("/api/v1/projects/default", json={"log_content": True})
    assert (content.status_code, content.json()["code"]) == (403, "content_not_yours")
    assert renamed.json()["suggestion"] and content.json()["suggestion"]
