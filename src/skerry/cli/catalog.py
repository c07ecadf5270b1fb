"""The table of commands: what `skerry --help` shows, and where each command is, without importing any of them."""

from dataclasses import dataclass

MODULES = "skerry.cli.commands"


@dataclass(frozen=True, slots=True)
class Entry:
    """A command of the top level. A `noun` is a module's whole app; a verb is one command in it, of the same name."""

    name: str
    module: str
    help: str
    noun: bool = False
    hidden: bool = False


SECTIONS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "Run a cloud",
        (
            Entry("up", "run", "Start a cloud on this machine."),
            Entry("down", "run", "Stop the cloud on this machine."),
            Entry("reload", "run", "Replace the gateway and its certificate without cutting an answer."),
            Entry("status", "status", "Show the processes of the cloud on this machine."),
            Entry("fleet", "fleet", "The machines: declare, show, take out and bring back (operators).", noun=True),
            Entry("gateway", "run", "Run a gateway alone, for a cloud of several machines."),
            Entry("server", "run", "Run an API server alone."),
            Entry("controller", "run", "Run a controller alone."),
            Entry("agent", "run", "Run the agent that starts work on this machine.", hidden=True),
            Entry("shipper", "run", "Run the process that ships usage records.", hidden=True),
        ),
    ),
    (
        "Use models",
        (
            Entry("chat", "chat", "Chat with a model, or ask it one thing."),
            Entry("models", "models", "The catalogue: list, show, add and remove models.", noun=True),
            Entry("endpoints", "endpoints", "Where models are served, and whether they are ready.", noun=True),
            Entry("files", "files", "Files in the cloud: upload, list, get and remove.", noun=True),
            Entry("batch", "batch", "Many requests in a file, at half the price.", noun=True),
            Entry("requests", "requests", "The log of answers that were given.", noun=True),
            Entry("bench", "bench", "Put a model under load, and tell how fast it is and what it costs."),
        ),
    ),
    (
        "Reserve capacity",
        (
            Entry("availability", "availability", "Show when how many nodes are free to reserve."),
            Entry("quote", "quote", "Ask what nodes cost and when they can be had."),
            Entry("reserve", "reserve", "Hold an offer, and buy it if you agree to its price."),
            Entry("reservations", "reservations", "Capacity that is held or bought: look, confirm, change.", noun=True),
        ),
    ),
    (
        "Train",
        (Entry("job", "job", "Training jobs: run, list, show, logs, pause, resume, cancel, goodput.", noun=True),),
    ),
    (
        "Lease machines",
        (
            Entry("instance", "instance", "Leased machines: create, list, show, stop, start, terminate.", noun=True),
            Entry("cluster", "cluster", "Leased machines that know each other, with SSH between them.", noun=True),
            Entry("ssh", "ssh", "Log in to an instance or a node of a cluster."),
            Entry("volumes", "volumes", "Room that outlives machines: create, list, show and delete.", noun=True),
            Entry("ssh-keys", "ssh_keys", "Public keys that machines are made with.", noun=True),
        ),
    ),
    (
        "Money",
        (
            Entry("usage", "spending", "Show what was used."),
            Entry("costs", "spending", "Show what it costs."),
            Entry("prices", "spending", "Show the price book in effect."),
            Entry("charges", "charges", "Show one-off charges."),
            Entry("budgets", "budgets", "Limits on what may be spent.", noun=True),
            Entry("contracts", "contracts", "Customers' own prices, terms and credit.", noun=True),
            Entry("price-books", "price_books", "Put new prices in force (operators).", noun=True),
        ),
    ),
    (
        "People and keys",
        (
            Entry("login", "login", "Store the address and key of a cloud, after checking them."),
            Entry("whoami", "login", "Show which key is in use, and what it may do."),
            Entry("keys", "keys", "API keys: list, create, rotate and revoke.", noun=True),
            Entry("organizations", "organizations", "Organizations, their limits and tiers (operators).", noun=True),
            Entry("projects", "projects", "Projects of the organization.", noun=True),
            Entry("members", "members", "People of the organization.", noun=True),
            Entry("audit", "audit", "Who did what, and proof that nothing was altered.", noun=True),
        ),
    ),
)

ENTRIES = {entry.name: entry for _, entries in SECTIONS for entry in entries}
