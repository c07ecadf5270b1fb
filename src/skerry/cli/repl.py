"""The interactive chat: lines in, answers out, and a few commands that begin with a slash."""

from collections.abc import Callable
from dataclasses import dataclass

from skerry.cli.conversation import Conversation, figures_of
from skerry.cli.failures import Failure
from skerry.cli.session import failure_of
from skerry.cli.speech import complain, dim, note
from skerry.client import SkerryError

HELP = """\
/reset          forget the conversation
/model [NAME]   show the models, or go on with another
/system [TEXT]  set the system prompt, or without TEXT remove it
/exit           leave; Ctrl-D does too
/help           show this
Ctrl-C stops an answer and keeps the conversation. A line that ends with \\ goes on in the next."""


@dataclass(frozen=True, slots=True)
class Repl:
    """`read_line` shows a prompt and gives a line; it raises EOFError at the end and KeyboardInterrupt on Ctrl-C."""

    conversation: Conversation
    read_line: Callable[[str], str]
    show: Callable[[str], None]

    def run(self) -> None:
        """Until /exit or the end of the input. An error ends an answer, not the session."""
        dim(f"{self.conversation.model} · /help for commands, Ctrl-D to leave")
        while True:
            try:
                line = self._read()
            except EOFError:
                note("")
                return
            except KeyboardInterrupt:
                dim("\nCtrl-D or /exit leaves.")
                continue
            if line in ("/exit", "/quit"):
                return
            try:
                self._obey(line) if line.startswith("/") else self._ask(line)
            except SkerryError as error:
                complain(failure_of(error))
            except KeyboardInterrupt:
                dim("stopped")

    def _read(self) -> str:
        lines = [self.read_line("> ")]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1].removesuffix("\\")
            lines.append(self.read_line(". "))
        return "\n".join(lines).strip()

    def _ask(self, question: str) -> None:
        if not question:
            return
        try:
            summary = self.conversation.ask(question, self.show)
        finally:
            self.show("\n")
        dim("stopped" if summary is None else figures_of(summary))

    def _obey(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        rest = rest.strip()
        match verb:
            case "/help":
                note(HELP)
            case "/reset":
                self.conversation.reset()
                dim("The conversation is forgotten.")
            case "/system":
                self.conversation.system = rest or None
                dim("The system prompt is set." if rest else "There is no system prompt now.")
            case "/model":
                self._model(rest)
            case _:
                complain(Failure(f"There is no command {verb}.", suggestion="/help shows those there are."))

    def _model(self, name: str) -> None:
        known = [model.id for model in self.conversation.client.models.callable()]
        if not name:
            for model in known:
                note(f"{'*' if model == self.conversation.model else ' '} {model}")
        elif name not in known:
            complain(Failure(f"There is no model {name}.", suggestion=f"There are: {', '.join(known)}."))
        else:
            self.conversation.model = name
            dim(f"Going on with {name}.")
