"""What the commands of instances and clusters share: what is asked for, waiting, and showing."""

import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from rich.console import Console

from skerry.cli import inputs
from skerry.cli.failures import Failure, wrong_use
from skerry.cli.figures import grouped, money, when
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.cli.speech import dim, note, printable
from skerry.client import Skerry
from skerry.client.answers.machines import Cluster, Instance, Machine, MachineEstimate
from skerry.client.answers.runtime import Event

M = TypeVar("M", Instance, Cluster)

POLL_SECONDS = 0.5
_SIZE = re.compile(r"(\d{1,15})\s*([KMGTP]i?B|B)?")
_UNITS: dict[str, int] = {"": 1, "B": 1, **{f"{unit}B": 1000**n for n, unit in enumerate("KMGTP", 1)}}
_UNITS |= {f"{unit}iB": 1024**n for n, unit in enumerate("KMGTP", 1)}
USUAL_KEYS = ("id_ed25519.pub", "id_ecdsa.pub", "id_ed25519_sk.pub", "id_rsa.pub")

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what it would cost, and make nothing.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it can be logged in to.")]
Timeout = Annotated[float, typer.Option(min=0, help="Longest wait in seconds.")]
Sku = Annotated[str | None, typer.Option(help="Kind of node. [default: the reservation's, or the only one]")]
Site = Annotated[str | None, typer.Option(help="Where. [default: where there are most such nodes]")]
Key = Annotated[
    list[str] | None,
    typer.Option(
        "--key", metavar="NAME|FILE", help="SSH key that may log in; several times. [default: all that are stored]"
    ),
]
For = Annotated[str | None, typer.Option("--for", metavar="TIME", help="Stop it after so long: 30m, 8h or 2d.")]
MaxCost = Annotated[str | None, typer.Option("--max-cost", metavar="AMOUNT", help="Stop it before it costs more.")]
Mount = Annotated[
    list[str] | None,
    typer.Option("--volume", metavar="NAME:/PATH[:ro]", help="Attach a volume at a path; several times."),
]
HomeSize = Annotated[
    str | None, typer.Option("--home", metavar="SIZE", help="Of the home folder, which outlives stops; 0: none.")
]
Image = Annotated[str | None, typer.Option(help="What it boots from. [default: the node's own programs]")]
Script = Annotated[
    Path | None,
    typer.Option("--start-script", exists=True, dir_okay=False, readable=True, help="Run as root at each start."),
]
Template = Annotated[Literal["jupyter"] | None, typer.Option(help="What runs beside the SSH server.")]
InReservation = Annotated[str | None, typer.Option("--reservation", help="Inside this reservation, by its id.")]
Spot = Annotated[bool, typer.Option("--spot", help="On idle capacity that may be taken back.")]
Tag = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be said several times.")]

EVENTS: tuple[Column[Event], ...] = (
    Column("time", lambda event: when(event.at), whole=True),
    Column("event", lambda event: event.type, whole=True),
    Column("what", lambda event: _told(event.data)),
)


def wishes(
    *,
    sku: str | None,
    site: str | None,
    length: str | None,
    max_cost: str | None,
    volumes: list[str] | None,
    home: str | None,
    image: str | None,
    script: Path | None,
    template: str | None,
    reservation: str | None,
    spot: bool,
    tags: list[str] | None,
) -> dict[str, Any]:
    """The fields of a request that instances and clusters share."""
    if spot and reservation:
        raise wrong_use("--spot and --reservation say two things.", "Say one of them.")
    return {
        "sku": sku,
        "site": site,
        "capacity_class": "spot" if spot else None,
        "reservation_id": reservation,
        "image": image,
        "start_script": _script(script) if script is not None else None,
        "template": template,
        "volumes": [_mount(text) for text in volumes or []] or None,
        "home_bytes": size_of(home, "--home") if home is not None else None,
        "max_duration_seconds": inputs.seconds(length, "--for") if length is not None else None,
        "max_cost": str(inputs.amount(max_cost, "--max-cost")[0]) if max_cost is not None else None,
        "tags": inputs.pairs(tags or [], "--tag") or None,
    }


def _script(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise wrong_use(
            f"--start-script: {path} is not text.", "It is a script that begins with #!, or a #cloud-config."
        ) from error


def keys_to_use(client: Skerry, said: Sequence[str] | None) -> list[str]:
    """Names of stored keys, and the contents of files; else all stored ones, else this user's own."""
    if said:
        return [read_public_key(Path(one).expanduser()) if _is_file(one) else one for one in said]
    stored = [key.name for key in client.ssh_keys.list()]
    if stored:
        return stored
    own = usual_key()
    if own is None:
        raise wrong_use(
            "There is no SSH key to log in with.",
            "`ssh-keygen -t ed25519` makes one, `skerry ssh-keys add` stores it; or say --key FILE.",
        )
    dim(f"Using {own}; `skerry ssh-keys add` stores it under a name.")
    return [read_public_key(own)]


def usual_key() -> Path | None:
    """The first of this user's public keys."""
    folder = Path("~/.ssh").expanduser()
    return next((folder / name for name in USUAL_KEYS if (folder / name).is_file()), None)


def read_public_key(path: Path) -> str:
    """Raises Failure for private keys: these are not to leave the machine."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise wrong_use(f"{path} cannot be read as a public key: {error}") from error
    if "PRIVATE KEY" in text:
        raise wrong_use(f"{path} is a private key: it was not sent.", f"The public one is {path}.pub.")
    return text


def fingerprint(public_key: str) -> str | None:
    """As `ssh-keygen -l` shows it; None for what is no key."""
    words = public_key.split()
    try:
        raw = base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error):
        return None
    return f"SHA256:{base64.b64encode(sha256(raw).digest()).decode().rstrip('=')}"


def size_of(text: str, option: str) -> int:
    """`20GiB`, `500MB`, or bytes."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise wrong_use(f"{option}: {text!r} is not a size.", "It takes forms like 20GiB or 500MB.")
    return int(match[1]) * _UNITS[match[2] or ""]


def price_words(estimate: MachineEstimate) -> str:
    """What it would cost, in a line or two."""
    what = f"{estimate.nodes} × {estimate.sku}" if estimate.nodes > 1 else estimate.sku
    noun = "accelerator" if estimate.accelerators == 1 else "accelerators"
    size = f"{what} with {estimate.accelerators} {noun} at {estimate.site}"
    if estimate.charge_by == "reservation":
        cost = "nothing more: the reservation is what is paid"
    elif not estimate.hourly.amount:
        cost = "nothing, at the prices of today"
    else:
        cost = f"{grouped(estimate.hourly.amount)} {estimate.hourly.currency} an hour"
    if estimate.total is not None and estimate.total.amount:
        cost += f", {grouped(estimate.total.amount)} {estimate.total.currency} in all"
    energy = f", about {estimate.kwh:.2f} kWh an hour" if estimate.kwh else ""
    return f"{size}: {cost}{energy}."


def shown_estimate(session: Session, estimate: MachineEstimate) -> None:
    """The answer of --dry-run."""
    words = price_words(estimate)
    if estimate.available_now:
        words += "\nIt would start now."
    elif estimate.status_reason is not None:
        words += f"\nIt could not start now: {estimate.status_reason.message}"
    session.out.done(words, estimate.raw)


def agree(session: Session, estimate: MachineEstimate, *, yes: bool) -> None:
    session.agree(estimate.hourly, price_words(estimate), yes=yes)


def wait_until(
    look: Callable[[], M], wanted: str, timeout: float, show: str, sleep: Callable[[float], None] = time.sleep
) -> M:
    """The machine once it is in the status `wanted`. Raises Failure where it ends otherwise, or takes too long.

    `show` is the command that shows it.
    """
    screen = Console(stderr=True, highlight=False)
    deadline, said = time.monotonic() + timeout, ""
    with screen.status("…") if screen.is_terminal else nullcontext() as spinner:
        while True:
            machine = look()
            words = f"{machine.name} is {machine.status}: {reason(machine)}"
            if machine.status == wanted:
                return machine
            if machine.status in ("failed", "terminated") or (machine.status == "stopped" and wanted == "running"):
                raise Failure(words, suggestion=f"`{show}` shows more.")
            if time.monotonic() >= deadline:
                raise Failure(f"After {timeout:.0f} s, {words}", suggestion=f"It goes on by itself: `{show}`.")
            if spinner is not None:
                spinner.update(printable(words))
            elif words != said:
                dim(words)
            said = words
            sleep(POLL_SECONDS)


def reason(machine: Machine) -> str:
    return machine.status_reason.message if machine.status_reason else ""


def common_fields(machine: Machine) -> list[tuple[str, str]]:
    return [
        ("name", machine.name),
        ("id", machine.id),
        ("status", machine.status),
        ("reason", reason(machine)),
        ("sku", f"{machine.sku}, {machine.accelerators} accelerators"),
        ("site", machine.site),
        ("capacity", " ".join(filter(None, (machine.capacity_class, machine.reservation_id)))),
        ("cost so far", money(machine.cost_so_far)),
        ("stops after", f"{machine.max_duration_seconds} s" if machine.max_duration_seconds else ""),
        ("stops at", machine.max_cost or ""),
        ("image", machine.image or ""),
        ("template", machine.template or ""),
        *(("volume", f"{one.volume} at {one.target}{' (read-only)' * one.read_only}") for one in machine.volumes),
        *(("key", key) for key in machine.ssh_keys),
        *(("tag", f"{name}={value}") for name, value in machine.tags.items()),
        ("created", when(machine.created_at)),
        ("running since", when(machine.running_at) if machine.status == "running" else ""),
        ("terminated", when(machine.ended_at)),
    ]


def say(session: Session, words: str) -> None:
    if not session.out.as_json:
        note(words)


def _mount(text: str) -> dict[str, Any]:
    name, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not name or not target.startswith("/") or mode not in ("", "ro", "rw"):
        raise wrong_use(
            f"--volume: {text!r} is not a volume and a path.", "It takes forms like data:/data or data:/data:ro."
        )
    return {"volume": name, "target": target, "read_only": mode == "ro"}


def _is_file(text: str) -> bool:
    return text.endswith(".pub") or "/" in text or Path(text).expanduser().is_file()


def _told(data: Mapping[str, Any]) -> str:
    """The reason of a step; of all else the plain values."""
    why = data.get("reason")
    if isinstance(why, dict):
        return str(why.get("message") or why.get("code") or "")
    return ", ".join(f"{name} {value}" for name, value in data.items() if isinstance(value, str | int) and value != "")
