"""LiteLLM as a client, unmodified: chat, stream, structured output, tools, embeddings, errors."""

import json
from typing import Any

import litellm
from reporting import ASK, CHAT, EMBEDDING, SCHEMA, SLOW_KEY, error_of, run


def ask(content: str = ASK, **more: Any) -> Any:
    fixed = {"model": f"openai/{CHAT}", "max_tokens": 8, "max_retries": 0}
    return litellm.completion(**{**fixed, "messages": [{"role": "user", "content": content}], **more})


def chat() -> dict[str, Any]:
    answer = ask()
    used = answer.usage
    text = answer.choices[0].message.content
    return {"text": text, "prompt": used.prompt_tokens, "completion": used.completion_tokens}


def stream() -> dict[str, Any]:
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    parts = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    used = chunks[-1].usage
    return {
        "text": "".join(parts),
        "pieces": len(parts),
        "prompt": used.prompt_tokens,
        "completion": used.completion_tokens,
    }


def structured() -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "animal", "schema": SCHEMA, "strict": True}}
    said: dict[str, Any] = json.loads(
        ask("Think of a bird.", max_tokens=200, temperature=0, response_format=form).choices[0].message.content
    )
    return said


def tools() -> dict[str, Any]:
    tool = {"type": "function", "function": {"name": "animal", "parameters": SCHEMA}}
    return error_of(lambda: ask(tools=[tool]))


def embeddings() -> dict[str, Any]:
    if not EMBEDDING:
        return {"none": True}
    texts = ["A bird sings.", "A song of birds.", "The invoice is due."]
    answer = litellm.embedding(model=f"openai/{EMBEDDING}", input=texts)
    return {"vectors": [row["embedding"] for row in answer.data], "prompt": answer.usage.prompt_tokens}


def unauthorized() -> dict[str, Any]:
    return error_of(lambda: ask(api_key="sk-wrong"))


def not_found() -> dict[str, Any]:
    return error_of(lambda: ask(model="openai/no-such-model"))


def throttled() -> dict[str, Any]:
    return error_of(lambda: ask(api_key=SLOW_KEY, max_tokens=1), tries=2)


if __name__ == "__main__":
    litellm.suppress_debug_info = True
    run([chat, stream, structured, tools, embeddings, unauthorized, not_found, throttled])
