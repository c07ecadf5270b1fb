"""Settings come from the environment, once, in the composition root; everything else is handed values."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from skerry.kernel.money import nano_from_decimal, parse_amount

STATE_LINK = "state"
_LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
_DAY = 86_400
_DRIVERS = ("netns", "oci", "node")
_POSITIVE = (
    "max_body_bytes", "requests_per_minute", "tokens_per_minute", "queue_seconds", "answer_timeout_seconds",
    "replica_memory_bytes", "drain_seconds", "max_file_bytes", "files_quota_bytes", "files_quota_count",
    "volumes_quota_bytes", "volumes_quota_count", "horizon_days", "offer_seconds", "hold_seconds", "holds_limit",
    "holds_node_seconds", "holds_repeats",
)  # fmt: skip


class BadSetting(ValueError):
    """A setting that cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that an operator can set. Each field is `SKERRY_` and its name in capitals."""

    home: Path
    """This installation: its key, its credentials, its state; default `~/.skerry`."""
    state: Path
    """Where the running processes keep their things: `home`, or where `home/state` points (see `server/layout.py`)."""
    database_url: str | None = None
    """An external PostgreSQL ≥ 15; None: the embedded one."""
    server_url: str = ""
    """Where gateways find the control API: `http://host:port`; empty: the Unix socket in `run/`."""
    gateway_url: str = ""
    """Where the controller sends rows of batches: `http://host:port` or `unix:PATH`; empty: the socket in `run/`."""
    host: str = "127.0.0.1"
    """Address of the public port; `0.0.0.0` for all of this machine."""
    port: int = 8080
    """The public port."""
    tls_cert: Path | None = None
    """Certificate chain of the public port, PEM; with it the port speaks HTTPS only. `skerry reload` reads it anew."""
    tls_key: Path | None = None
    """Private key of `tls_cert`, PEM without a passphrase. Only the launcher reads it."""
    public_url: str = ""
    """Under which clients reach the public port, such as `https://api.example.org`; empty: host and port."""
    currency: str = "USD"
    """Currency of the first price book; later ones carry their own."""
    credit_limit: str = "1000.00"
    """Monthly credit of a new organization, in `currency`."""
    metrics_token: str | None = None
    """Bearer token that may read `/metrics` beside operator keys."""
    max_body_bytes: int = 8 * 1024 * 1024
    """Largest request body of the inference paths and of the control API."""
    max_file_bytes: int = 512 * 1024 * 1024
    """Largest file that `/v1/files` takes."""
    files_quota_bytes: int = 64 * 1024**3
    """What the files of one project may have in all."""
    files_quota_count: int = 10_000
    """How many files one project may have."""
    files_folder: Path | None = None
    """Where files lie, by default `files/` in the state folder; server and controllers need the same one."""
    files_keep_free_bytes: int = 1024**3
    """No file is taken in while the disk has less than this: the database may need it."""
    requests_per_minute: int = 6_000_000
    """Limit of a key that sets none itself."""
    tokens_per_minute: int = 6_000_000_000
    """Limit of a key that sets none itself."""
    queue_limit: int = 256
    """Requests that may wait for a replica of one endpoint; more are answered 503."""
    queue_seconds: float = 60.0
    """Longest wait for a replica; then 503."""
    answer_timeout_seconds: float = 600.0
    """Longest silence of a replica before its request is given up."""
    drain_seconds: float = 8.0
    """How long a gateway that is stopped finishes its answers; one that is replaced has `answer_timeout_seconds`."""
    replica_memory_bytes: int = 4 * 1024**3
    """Most memory one replica may take; its slots are planned by it."""
    request_log_days: int = 30
    """How long the request log keeps an answer; 0: it keeps none."""
    horizon_days: int = 1096
    """How far ahead capacity is sold."""
    offer_seconds: int = 300
    """How long an offer of a quote is honoured, if it can still be admitted; as long a change quote is good."""
    hold_seconds: int = 900
    """How long a hold keeps its nodes without being confirmed, up to a day."""
    holds_limit: int = 10
    """How many holds an organization may have at a time."""
    holds_node_seconds: int = 250_000_000
    """How much an organization may hold at a time: the default is 32 nodes for 90 days."""
    holds_repeats: int = 3
    """How often an organization may hold the same SKU for the same time in a day without buying it."""
    bind_lead_seconds: int = 900
    """How long before a reservation's start its nodes are chosen."""
    spot_notice_seconds: int = 60
    """How long before spot capacity is taken back its holder is told."""
    sell_ahead: str = "1"
    """Share of a planned delivery's confidence that may be sold before the nodes are there, 0 to 1."""
    otel_endpoint: str | None = None
    """Where traces go: an OpenTelemetry collector's base URL such as `http://localhost:4318` (OTLP over HTTP)."""
    otel_sample: float = 1.0
    """Share of the answers that is traced, 0 to 1; a client's own `traceparent` decides for itself."""
    default_model: bool = True
    """Whether the first start adds SmolLM2-135M-Instruct and all-MiniLM-L6-v2."""
    hub_url: str = "https://huggingface.co"
    """Where `source.hub` downloads from; empty: nowhere."""
    hub_token: str | None = None
    """For gated and private models; it is sent to the hub's own host alone."""
    models_keep_free_bytes: int = 2 * 1024**3
    """No model is downloaded while the disk would have less than this afterwards."""
    vllm_python: str | None = None
    """A Python that has vLLM, on the nodes with GPUs; unset: safetensors of language models are refused."""
    vllm_device: str = "cuda"
    """`cuda`, or `cpu` where it is a CPU build."""
    vllm_accelerators: int = 1
    """GPUs of one vLLM replica, tensor parallel over all of them."""
    vllm_tool_parser: str | None = None
    """Name of vLLM's parser of tool calls, such as `hermes`; unset: no `tools`."""
    compute_engine: str = "embedded"
    """What starts work: `embedded` (this machine) or `slurm` (a fleet); `skerry up --engine` sets it."""
    slurm_partition: str = ""
    """The partition whose nodes are the fleet; empty: Slurm's default one."""
    slurm_shared: Path | None = None
    """A folder that this machine and all nodes see under the same path. Needed once a node is another machine."""
    slurm_conf: Path | None = None
    """slurm.conf, where it is not in Slurm's own place; by default what `SLURM_CONF` names."""
    slurm_work: Path | None = None
    """On each node: where tasks work; default `/var/lib/skerry/slurm`."""
    slurm_options: str = ""
    """More for `sbatch`, such as `--account=skerry --qos=normal`."""
    slurm_fence: str = ""
    """A command that sees to it that nothing runs on a node, its last argument, any more: one that cuts its power."""
    volumes_folder: Path | None = None
    """Where volumes and home folders lie, under the same path on all nodes; by default `volumes/` in the state folder
    on one machine, and nowhere on a fleet."""
    volumes_quota_bytes: int = 16 * 1024**4
    """What the volumes and home folders of one project may have in all."""
    volumes_quota_count: int = 200
    """How many volumes and home folders one project may have."""
    instance_drivers: str = "netns,oci"
    """What may keep instances apart on a node: `netns` (no boundary: trusted projects alone), `oci`, `node`."""
    instance_images: Path | None = None
    """On each node: the folder with images of instances; unset: instances have the programs of their node."""
    instance_base: Path = Path("/")
    """On each node: the root folder of instances without an image."""
    instance_scratch: Path | None = None
    """On each node: where instances write outside of home and volumes; unset: in memory."""
    instance_listen: str = "127.0.0.1"
    """Address of each node on which the SSH servers of its instances can be reached; `0.0.0.0` for all."""
    instance_address: str = ""
    """What customers are told as the host of their SSH server; empty: `instance_listen`."""
    instance_ports: str = "22000-22999"
    """Ports of each node for the SSH servers of its instances."""
    artifacts_quota_bytes: int = 256 * 1024**3
    """What the nodes of one workload may leave with the control plane, such as checkpoints without a shared folder."""
    node_url: str = ""
    """Where nodes of a fleet find the control API; empty: `public_url`. This machine's own tasks use a socket."""
    shared: Path | None = None
    """A folder that all nodes see under the same path: for checkpoints and volumes. Unset: tasks on a fleet bring and
    send their checkpoints over the control API."""
    project_uids: int = 300_000
    """Each project's code runs as a Unix user of its own: this number plus the project's. 65,536 numbers from here on
    must be free on all nodes."""
    sandbox_trusted: bool = True
    """Whether code of trusted projects runs in a sandbox too, where there is one; that of others always does."""
    task_folders: str = ""
    """Folders of the nodes that every task may read, such as `/opt/rocm:/cvmfs`."""
    remediation: str = "approve"
    """Who decides about a node that is not well: `approve` (operators), or `auto` where no hands are needed."""
    remediation_command: str = ""
    """What does it: told `reset` or `reboot`, and the node's host name. Empty: operators do, and say so."""
    burn_in_hours: int = 168
    """How often an idle node has a burn-in; 0: never."""
    burn_in_seconds: int = 30
    """How long a burn-in works on a node."""
    bandwidth_mbit: int = 0
    """Megabits a second that two nodes must be able to send each other for a bandwidth check to pass."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Raises BadSetting for a value that does not parse."""
        env = os.environ if environ is None else environ
        home = Path(env.get("SKERRY_HOME") or "~/.skerry").expanduser().absolute()
        link = home / STATE_LINK
        state = Path(env["SKERRY_STATE"]) if env.get("SKERRY_STATE") else link.resolve() if link.exists() else home
        values: dict[str, object] = {"home": home, "state": state}
        for name, field in cls.__dataclass_fields__.items():
            text = env.get(f"SKERRY_{name.upper()}")
            if name == "slurm_conf":
                text = text or env.get("SLURM_CONF")
            if name in ("home", "state") or text is None or text == "":
                continue
            values[name] = _parse(f"SKERRY_{name.upper()}", text, str(field.type))
        settings = cls(**values)  # type: ignore[arg-type]
        _check(settings)
        return settings if settings.server_url else replace(settings, server_url=f"unix:{settings.server_socket}")

    @property
    def local_url(self) -> str:
        """The public port as this machine sees it."""
        host = self.host
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls_cert else 'http'}://{shown}:{self.port}"

    @property
    def url(self) -> str:
        """The public port as clients see it."""
        return self.public_url.rstrip("/") or self.local_url

    @property
    def run(self) -> Path:
        """Sockets and pid files of the running processes."""
        return self.state / "run"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def journal(self) -> Path:
        return self.state / "journal"

    @property
    def files(self) -> Path:
        """What customers upload and batches write; server and controller both need it."""
        return self.files_folder or self.state / "files"

    @property
    def volumes(self) -> Path | None:
        """Where volumes lie, as nodes see it; None: this installation has no place for them."""
        return self.volumes_folder or (self.state / "volumes" if self.compute_engine == "embedded" else None)

    @property
    def instance_port_range(self) -> tuple[int, int]:
        """Both ends included. Raises BadSetting."""
        first, _, last = self.instance_ports.partition("-")
        if first.isdecimal() and last.isdecimal() and 1024 <= int(first) <= int(last) <= 65535:
            return int(first), int(last)
        raise BadSetting(f"SKERRY_INSTANCE_PORTS={self.instance_ports!r} is not a range such as 22000-22999")

    @property
    def server_socket(self) -> Path:
        return self.run / "server.sock"

    @property
    def gateway_socket(self) -> Path:
        """Where a gateway also listens, for the platform's own requests."""
        return self.run / "gateway.sock"

    @property
    def agent_socket(self) -> Path:
        return self.run / "agent.sock"


def _check(settings: Settings) -> None:
    """What would otherwise end each process by itself, some time later. Raises BadSetting."""
    for name in _POSITIVE:
        if getattr(settings, name) <= 0:
            raise BadSetting(f"SKERRY_{name.upper()}={getattr(settings, name)} must be greater than 0")
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise BadSetting("SKERRY_TLS_CERT and SKERRY_TLS_KEY belong together: set both, or neither")
    if settings.public_url and not settings.public_url.startswith(("http://", "https://")):
        raise BadSetting(f"SKERRY_PUBLIC_URL={settings.public_url!r} does not begin with http:// or https://")
    if settings.compute_engine not in ("embedded", "slurm"):
        raise BadSetting(f"SKERRY_COMPUTE_ENGINE={settings.compute_engine!r} is neither embedded nor slurm")
    for name in ("bind_lead_seconds", "spot_notice_seconds"):
        if getattr(settings, name) < 0:
            raise BadSetting(f"SKERRY_{name.upper()}={getattr(settings, name)} must not be less than 0")
    if settings.hold_seconds > _DAY:
        raise BadSetting(f"SKERRY_HOLD_SECONDS={settings.hold_seconds} must not be more than {_DAY}, a day")
    _check_share("SKERRY_SELL_AHEAD", settings.sell_ahead)
    _check_instances(settings)
    _check_health(settings)
    if settings.request_log_days < 0:
        raise BadSetting(f"SKERRY_REQUEST_LOG_DAYS={settings.request_log_days} must not be less than 0")
    if not 0 <= settings.otel_sample <= 1:
        raise BadSetting(f"SKERRY_OTEL_SAMPLE={settings.otel_sample} must be between 0 and 1")
    if settings.otel_endpoint and not settings.otel_endpoint.startswith(("http://", "https://")):
        raise BadSetting(f"SKERRY_OTEL_ENDPOINT={settings.otel_endpoint!r} does not begin with http:// or https://")
    if settings.log_level.lower() not in _LOG_LEVELS:
        raise BadSetting(f"SKERRY_LOG_LEVEL={settings.log_level!r} is none of {', '.join(_LOG_LEVELS)}")
    if not (len(settings.currency) == 3 and settings.currency.isascii() and settings.currency.isupper()):
        raise BadSetting(f"SKERRY_CURRENCY={settings.currency!r} is not a currency code such as USD")
    try:
        if nano_from_decimal(parse_amount(settings.credit_limit)) < 0:
            raise ValueError("it is less than 0")
    except ValueError as error:
        raise BadSetting(f"SKERRY_CREDIT_LIMIT={settings.credit_limit!r} is not an amount of money: {error}") from error


def _check_instances(settings: Settings) -> None:
    unknown = set(settings.instance_drivers.split(",")) - set(_DRIVERS)
    if unknown:
        words = f"SKERRY_INSTANCE_DRIVERS={settings.instance_drivers!r} has {', '.join(sorted(unknown))!r}"
        raise BadSetting(f"{words}; there are {', '.join(_DRIVERS)}")
    assert settings.instance_port_range


def _check_health(settings: Settings) -> None:
    if settings.remediation not in ("approve", "auto"):
        raise BadSetting(f"SKERRY_REMEDIATION={settings.remediation!r} must be approve or auto")
    if settings.burn_in_hours < 0 or settings.burn_in_seconds < 1 or settings.bandwidth_mbit < 0:
        raise BadSetting("SKERRY_BURN_IN_HOURS, _SECONDS and SKERRY_BANDWIDTH_MBIT must not be negative, nor 0 seconds")


def _check_share(name: str, text: str) -> None:
    try:
        if not 0 <= parse_amount(text) <= 1:
            raise ValueError("it is not between 0 and 1")
    except ValueError as error:
        raise BadSetting(f"{name}={text!r} is not a share: {error}") from error


def _parse(name: str, text: str, kind: str) -> object:
    if "Path" in kind:
        return Path(text).expanduser().absolute()
    try:
        if "int" in kind:
            return int(text)
        if "float" in kind:
            return float(text)
        if "bool" in kind:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
    except (ValueError, KeyError) as error:
        raise BadSetting(f"{name}={text!r} is not a {kind}") from error
    return text
