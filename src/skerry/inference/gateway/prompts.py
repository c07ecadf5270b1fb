"""What a prompt begins with, in a form that is equal for equal beginnings."""

from typing import Final

from skerry.inference.gateway.wire import AnyRequest, ChatRequest, EmbeddingsRequest, encoder

MOST: Final = 64 * 1024
"""Bytes looked at."""


def beginning(project: str, request: AnyRequest) -> bytes:
    """The project, then what the engine reads first: tools, then messages; or the prompt. Projects never share one."""
    salt = project.encode() + b"\0"
    if type(request) is ChatRequest:
        tools = encoder.encode(request.tools) if request.tools else b""
        return (salt + tools + encoder.encode(request.messages))[:MOST]
    if type(request) is EmbeddingsRequest:
        return salt
    prompt = request.prompt
    if isinstance(prompt, str):
        return (salt + prompt.encode())[:MOST]
    return (salt + encoder.encode(prompt))[:MOST]
