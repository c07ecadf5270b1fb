"""What runs inside: the first process (a shell script), the SSH server's configuration, the user table. All pure text.

The script is the same for every driver. It ends when its standard input, the host program's lifeline, ends: whatever
becomes of the host program, the instance goes with it.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from skerry.compute.instances.host.spec import (
    HOSTFILE,
    RENDEZVOUS_PORT,
    START_SCRIPT_LOG,
    ClusterMember,
    InstanceSpec,
    Template,
)

FOLDER: Final = "/.skerry"
"""Ours, read-only inside."""
ETC: Final = "/etc/skerry"
"""What the node writes while the instance runs, read-only inside."""
HOST_KEY: Final = f"{ETC}/ssh_host_ed25519_key"
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
JUPYTER_PORT: Final = 8888
PROXY_URL: Final = "http://skerry-egress:3128"
"""/etc/hosts says where that is."""
_LAST_SECONDS: Final = 3
"""Between SIGTERM to all that runs inside and the end."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Programs that the script needs, as commands of the instance."""

    shell: Sequence[str]
    sshd: Sequence[str]
    cat: Sequence[str]
    sleep: Sequence[str]
    tee: Sequence[str]
    setpriv: Sequence[str]


@dataclass(frozen=True, slots=True)
class Boot:
    """What varies from start to start. `mark` begins the line that says how the start script ended."""

    mark: str
    grace_seconds: float
    jupyter_token: str


def init_script(spec: InstanceSpec, tools: Tools, env: Mapping[str, str], boot: Boot) -> str:
    """PID 1."""
    cat, sleep = shlex.join(tools.cat), shlex.join(tools.sleep)
    lines = [
        f"#!{tools.shell[0]}",
        "exec 3<&0 </dev/null",
        "umask 022",
        *(f"export {name}={shlex.quote(value)}" for name, value in env.items()),
        "export HOME=/root; cd /",
        "say() {",
        "  for tty in /dev/pts/[0-9]*; do [ -c $tty ] && printf '\\r\\n*** %s\\r\\n' \"$1\" >$tty; done 2>/dev/null",
        "}",
        "down() {",
        "  trap '' TERM USR1",
        f'  say "$({cat} {ETC}/notice)"',
        # Who is logged in gets a moment; a machine with nobody on it does not wait.
        f"  set -- /dev/pts/[0-9]*; [ -c $1 ] && {sleep} {boot.grace_seconds:g}",
        "  kill -TERM -1",
        f"  n=0; while kill -0 -1 2>/dev/null && [ $n -lt {_LAST_SECONDS * 10} ]; do {sleep} 0.1; n=$((n+1)); done",
        "  exit 0",
        "}",
        "trap down TERM",
        f"trap 'say \"$({cat} {ETC}/notice)\"' USR1",
        f"( while :; do {shlex.join(tools.sshd)} -D -e -f {FOLDER}/sshd_config; {sleep} 1; done ) 3<&- &",
    ]
    if spec.start_script is not None:
        lines.append(
            f"( ( {FOLDER}/start; printf '\\n%s %s\\n' {boot.mark} $? ) 2>&1"
            f" | {shlex.join(tools.tee)} {START_SCRIPT_LOG} ) 3<&- &"
        )
    if spec.template is Template.JUPYTER:
        lines.append(_jupyter(spec, tools, boot))
    lines += [
        f"{cat} <&3 >/dev/null 2>&1 & keeper=$!",
        "exec 3<&-",
        "while kill -0 $keeper 2>/dev/null; do wait $keeper; done",
        "exit 0",
    ]
    return "\n".join(lines) + "\n"


def sshd_config(
    spec: InstanceSpec, env: Mapping[str, str], *, user: str = "", port: int = 22, listen: str = "0.0.0.0"
) -> str:
    """Keys alone open it."""
    return "\n".join(
        [
            f"Port {port}",
            f"ListenAddress {listen}",
            f"HostKey {HOST_KEY}",
            f"AuthorizedKeysFile {ETC}/authorized_keys .ssh/authorized_keys",
            f"AllowUsers {user or spec.user}",
            "PubkeyAuthentication yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitEmptyPasswords no",
            "PermitRootLogin prohibit-password",
            "UsePAM no",
            "PidFile none",
            "PrintMotd no",
            "X11Forwarding no",
            "AllowTcpForwarding yes",
            "GatewayPorts no",
            "PermitTunnel no",
            "MaxStartups 50:30:200",
            "ClientAliveInterval 60",
            "AcceptEnv LANG LC_*",
            "Subsystem sftp internal-sftp",
            "SetEnv " + " ".join(f'{name}="{_quoted(value)}"' for name, value in env.items()),
            "",
        ]
    )


def environment(spec: InstanceSpec, image: Mapping[str, str]) -> dict[str, str]:
    """What sessions, the start script and templates find; the image's own variables come last."""
    env = {
        "PATH": ":".join([*spec.options.path, image.get("PATH") or PATH]),
        "LANG": image.get("LANG", "C.UTF-8"),
        "SKERRY_INSTANCE": spec.id,
    }
    if spec.options.egress_proxy:
        names = spec.cluster.names if spec.cluster is not None else [spec.hostname]
        direct = ",".join(["localhost", "127.0.0.1", spec.options.subnet, *names])
        for name in ("http_proxy", "https_proxy"):
            env |= {name: PROXY_URL, name.upper(): PROXY_URL}
        env |= {"no_proxy": direct, "NO_PROXY": direct}
    if spec.cluster is not None:
        env |= cluster_environment(spec.cluster)
    return {**image, **env}


def cluster_environment(cluster: ClusterMember) -> dict[str, str]:
    """What launchers such as torchrun look for; /etc/hosts resolves the names."""
    return {
        "MASTER_ADDR": cluster.names[0],
        "MASTER_PORT": str(RENDEZVOUS_PORT),
        "SKERRY_NODES": str(cluster.size),
        "SKERRY_NODE_RANK": str(cluster.index or 0),
        "SKERRY_NODE_NAME": cluster.names[cluster.index or 0],
        "SKERRY_NODE_NAMES": ",".join(cluster.names),
        "SKERRY_HOSTFILE": HOSTFILE,
    }


def jupyter_url(boot: Boot) -> str:
    """As seen on the instance's own loopback."""
    return f"http://127.0.0.1:{JUPYTER_PORT}/lab?token={boot.jupyter_token}"


def passwd(spec: InstanceSpec, shell: str, existing: str = "") -> str:
    """The user table: what is there, less those it names itself."""
    mine = {"root": f"root:x:0:0:root:/root:{shell}", "sshd": "sshd:x:64999:65534::/run/sshd:/usr/sbin/nologin"}
    if spec.user != "root":
        mine[spec.user] = f"{spec.user}:x:{spec.uid}:{spec.uid}::/home/{spec.user}:{shell}"
    kept = [line for line in existing.splitlines() if line and line.split(":")[0] not in mine]
    kept = [line for line in kept if spec.user == "root" or line.split(":")[2:3] != [str(spec.uid)]]
    return "\n".join([*mine.values(), *kept]) + "\n"


def group(spec: InstanceSpec, existing: str = "") -> str:
    mine = {"root": "root:x:0:", "tty": "tty:x:5:", "nogroup": "nogroup:x:65534:"}
    if spec.user != "root":
        mine[spec.user] = f"{spec.user}:x:{spec.uid}:"
    kept = [line for line in existing.splitlines() if line and line.split(":")[0] not in mine]
    return "\n".join([*mine.values(), *kept]) + "\n"


def shadow(passwd_text: str) -> str:
    """Nobody has a password; `*` is not `!`, which sshd takes for a locked account."""
    return "".join(f"{line.split(':')[0]}:*:19000:0:99999:7:::\n" for line in passwd_text.splitlines() if line)


def home_of(spec: InstanceSpec) -> str:
    return "/root" if spec.user == "root" else f"/home/{spec.user}"


def _jupyter(spec: InstanceSpec, tools: Tools, boot: Boot) -> str:
    uid = 0 if spec.user == "root" else spec.uid
    allow_root = " --allow-root" if uid == 0 else ""
    become = f"{shlex.join(tools.setpriv)} --reuid {uid} --regid {uid} --clear-groups"
    home = shlex.quote(home_of(spec))
    return (
        f"( export HOME={home}; cd {home}; while :; do {become} jupyter lab --no-browser --ip=127.0.0.1"
        f" --port={JUPYTER_PORT} --ServerApp.port_retries=0 --ServerApp.root_dir={home}"
        f" --IdentityProvider.token={boot.jupyter_token}{allow_root};"
        f" {shlex.join(tools.sleep)} 5; done ) >/var/log/skerry-jupyter.log 2>&1 3<&- &"
    )


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
