"""Two plain pages without scripts: the landing page, and the reference made from the OpenAPI document."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

CSP: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#16202a;background:#fff}
code,pre{font:14px/1.45 ui-monospace,monospace}pre{background:#f3f5f7;padding:.8rem;overflow:auto;border-radius:6px}
summary{cursor:pointer;padding:.35rem 0}summary b{display:inline-block;min-width:4.5rem}
details{border-bottom:1px solid #e3e7eb}details>div{padding:0 0 1rem 4.5rem}h2{margin-top:2rem}
td{padding:.1rem 1rem .1rem 0;vertical-align:top}a{color:#0b62c4}
@media(prefers-color-scheme:dark){body{color:#dfe6ec;background:#12181e}pre{background:#1c252d}
details{border-color:#2a343d}a{color:#6fb1ff}}
"""


def landing() -> str:
    return _page(
        "Skerry",
        "<h1>Skerry</h1><p>This is the API of a cloud.</p><ul>"
        '<li><a href="/docs">Reference of the API</a> (<a href="/openapi.json">OpenAPI</a>)</li>'
        "<li>OpenAI-compatible: <code>/v1</code>; everything else: <code>/api/v1</code></li>"
        '<li><a href="/readyz">Is it ready?</a></li></ul>',
    )


def reference(api: Mapping[str, Any]) -> str:
    """Every operation with its parameters, body and answers, grouped as in the document."""
    groups: dict[str, list[str]] = {}
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["other"])[0]
            groups.setdefault(tag, []).append(_operation(method, path, operation))
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(parts)}" for tag, parts in groups.items())
    schemas = "".join(
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"<div>{_json(schema)}</div></details>"
        for name, schema in sorted(api["components"]["schemas"].items())
    )
    title = f"{escape(api['info']['title'])} {escape(api['info']['version'])}"
    source = 'From <a href="/openapi.json">/openapi.json</a>. Send <code>Authorization: Bearer sk-…</code>.'
    return _page("Skerry API", f"<h1>{title}</h1><p>{source}</p>{body}<h2>Schemas</h2>{schemas}")


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [f"<p>{escape(operation.get('description') or operation.get('summary', ''))}</p>"]
    if rows := "".join(_parameters(operation)):
        parts.append(f"<table>{rows}</table>")
    if body := operation.get("requestBody"):
        parts.append(f"<p>Body</p>{_json(body['content'])}")
    good = {code: answer.get("content", {}) for code, answer in operation["responses"].items() if code < "400"}
    parts.append(f"<p>Answer</p>{_json(good)}")
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code></summary>"
        f"<div>{''.join(parts)}</div></details>"
    )


def _parameters(operation: Mapping[str, Any]) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        name, place = escape(parameter["name"]), parameter["in"] + (", required" if parameter.get("required") else "")
        words = escape(parameter.get("description", ""))
        yield f"<tr><td><code>{name}</code></td><td>{place}</td><td>{words}</td></tr>"


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2))}</pre>"


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><body>{body}</body></html>'
    )
