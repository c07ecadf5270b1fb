"""LlamaIndex, unmodified: chat, stream, structured output, embeddings, errors."""

import os
from typing import Any, Literal

from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, Field
from reporting import ASK, BASE_URL, CHAT, EMBEDDING, SLOW_KEY, error_of, run

KEY = os.environ["OPENAI_API_KEY"]


class Animal(BaseModel):
    """An animal."""

    animal: Literal["cat", "bird"]
    legs: int = Field(ge=0, le=9)


def model(name: str = CHAT, **more: Any) -> OpenAILike:
    fixed = {"api_base": BASE_URL, "api_key": KEY, "is_chat_model": True, "context_window": 8192}
    return OpenAILike(**{"model": name, "max_tokens": 8, "max_retries": 0, **fixed, **more})


def chat() -> dict[str, Any]:
    answer = model().chat([ChatMessage(role="system", content="You are brief."), ChatMessage(ASK)])
    used = answer.raw.usage
    return {"text": answer.message.content, "prompt": used.prompt_tokens, "completion": used.completion_tokens}


def stream() -> dict[str, Any]:
    llm = model(additional_kwargs={"stream_options": {"include_usage": True}})
    parts = list(llm.stream_chat([ChatMessage(ASK)]))
    used = next(part.raw.usage for part in reversed(parts) if part.raw.usage is not None)
    return {
        "text": parts[-1].message.content,
        "pieces": sum(bool(part.delta) for part in parts),
        "prompt": used.prompt_tokens,
        "completion": used.completion_tokens,
    }


def structured() -> dict[str, Any]:
    llm = model(max_tokens=200, temperature=0, should_use_structured_outputs=True)
    return llm.as_structured_llm(Animal).chat([ChatMessage("Think of a bird.")]).raw.model_dump()


def embeddings() -> dict[str, Any]:
    if not EMBEDDING:
        return {"none": True}
    model = OpenAILikeEmbedding(model_name=EMBEDDING, api_base=BASE_URL, api_key=KEY, max_retries=0)
    texts = model.get_text_embedding_batch(["A bird sings.", "A song of birds."])
    return {"vectors": [*texts, model.get_query_embedding("The invoice is due.")]}


def unauthorized() -> dict[str, Any]:
    return error_of(lambda: model(api_key="sk-wrong").chat([ChatMessage(ASK)]))


def not_found() -> dict[str, Any]:
    return error_of(lambda: model("no-such-model").chat([ChatMessage(ASK)]))


def throttled() -> dict[str, Any]:
    return error_of(lambda: model(api_key=SLOW_KEY, max_tokens=1).chat([ChatMessage(ASK)]), tries=2)


if __name__ == "__main__":
    run([chat, stream, structured, embeddings, unauthorized, not_found, throttled])
