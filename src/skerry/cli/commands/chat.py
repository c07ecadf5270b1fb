"""`skerry chat`."""

import contextlib
import sys
from typing import Annotated

import typer

from skerry.cli.commanding import Commands
from skerry.cli.conversation import Conversation, as_json, figures_of
from skerry.cli.failures import Failure, wrong_use
from skerry.cli.repl import Repl
from skerry.cli.session import Session
from skerry.cli.speech import dim, printable
from skerry.client import Skerry

with contextlib.suppress(ImportError):
    # Gives input() its line editing and history.
    import readline  # noqa: F401

commands = Commands()
app = commands.app


@commands.command("chat")
def chat(
    session: Session,
    prompt: Annotated[
        str | None,
        typer.Argument(help="Ask this and leave; `-` or a pipe reads it from stdin. Without: a conversation."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Which model; without it the first there is.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2)] = None,
) -> None:
    """Chat with a model, or ask it one thing."""
    session.require_own_project("A chat")
    question = _question(prompt)
    if question is None and session.out.as_json:
        raise wrong_use("--json needs a PROMPT.")
    with session.client() as client:
        options = {"max_tokens": max_tokens, "temperature": temperature}
        conversation = Conversation(client, model or _first_model(client), system, options)
        if question is None:
            Repl(conversation, input, _show).run()
        else:
            _ask_once(session, conversation, question)


def _question(prompt: str | None) -> str | None:
    """The one thing to ask; None: a conversation."""
    if prompt is None and sys.stdin.isatty():
        return None
    question = (sys.stdin.read() if prompt in (None, "-") else prompt or "").strip()
    if not question:
        raise wrong_use("There is nothing to ask.", 'Say it like this: skerry chat "What is a skerry?"')
    return question


def _first_model(client: Skerry) -> str:
    first = next((model for model in client.models.callable() if "chat" in model.tasks), None)
    if first is None:
        raise Failure("There is no model to chat with.", suggestion="`skerry models add` adds one.")
    return first.id


def _ask_once(session: Session, conversation: Conversation, question: str) -> None:
    if session.out.as_json:
        summary = conversation.ask(question, lambda text: None)
    else:
        try:
            summary = conversation.ask(question, _show)
        finally:
            _show("\n")
    if summary is None:
        raise KeyboardInterrupt
    if session.out.as_json:
        session.out.json(as_json(summary))
    else:
        dim(figures_of(summary))


def _show(text: str) -> None:
    """Text of the answer as it comes. A terminal gets none of the characters that it would act on."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
