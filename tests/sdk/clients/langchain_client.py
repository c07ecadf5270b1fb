"""LangChain, unmodified: chat, stream, structured output, tools, embeddings, errors."""

from typing import Any, Literal

from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field
from reporting import ASK, CHAT, EMBEDDING, SLOW_KEY, error_of, run


class Animal(BaseModel):
    """An animal."""

    animal: Literal["cat", "bird"]
    legs: int = Field(ge=0, le=9)


def model(name: str = CHAT, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(**{"model": name, "max_tokens": 8, "max_retries": 0, **more})


def chat() -> dict[str, Any]:
    answer = model().invoke([("system", "You are brief."), ("user", ASK)])
    used = answer.usage_metadata
    return {"text": answer.content, "prompt": used["input_tokens"], "completion": used["output_tokens"]}


def stream() -> dict[str, Any]:
    chunks = list(model(stream_usage=True).stream(ASK))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    used = whole.usage_metadata
    pieces = sum(bool(chunk.content) for chunk in chunks)
    return {
        "text": whole.content,
        "pieces": pieces,
        "prompt": used["input_tokens"],
        "completion": used["output_tokens"],
    }


def structured() -> dict[str, Any]:
    animal = (
        model(max_tokens=200, temperature=0)
        .with_structured_output(Animal, method="json_schema")
        .invoke("Think of a bird.")
    )
    return animal.model_dump()


def tools() -> dict[str, Any]:
    return error_of(lambda: model().bind_tools([Animal]).invoke(ASK))


def embeddings() -> dict[str, Any]:
    if not EMBEDDING:
        return {"none": True}
    # Texts are sent as texts: OpenAI's own tokenizer, which is used otherwise, is not this model's.
    vectors = OpenAIEmbeddings(model=EMBEDDING, check_embedding_ctx_length=False).embed_documents(
        ["A bird sings.", "A song of birds.", "The invoice is due."]
    )
    return {"vectors": vectors}


def unauthorized() -> dict[str, Any]:
    return error_of(lambda: model(api_key="sk-wrong").invoke(ASK))


def not_found() -> dict[str, Any]:
    return error_of(lambda: model("no-such-model").invoke(ASK))


def throttled() -> dict[str, Any]:
    return error_of(lambda: model(api_key=SLOW_KEY, max_tokens=1).invoke(ASK), tries=2)


if __name__ == "__main__":
    run([chat, stream, structured, tools, embeddings, unauthorized, not_found, throttled])
