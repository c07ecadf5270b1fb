#!/bin/sh
# Install what leased instances need on a node, by apt where that and root are there: an SSH server, network namespaces, a
# container runtime, the sandbox of jobs. Quiet, harmless to run again, and never a failure: where it cannot be, a line says
# why, and the tests say that they were skipped (but in CI).
set -u

PACKAGES="openssh-server openssh-client bubblewrap iproute2 runc util-linux"
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

there() {
    for program in sshd ssh ssh-keygen bwrap ip runc nsenter setpriv; do
        command -v "$program" >/dev/null 2>&1 || return 1
    done
}

if there; then
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "instance-packages: not root, so nothing was installed (wanted: $PACKAGES)"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "instance-packages: no apt-get here, so nothing was installed (wanted: sshd, bwrap, ip, runc, nsenter, setpriv)"
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
install() {
    # shellcheck disable=SC2086 # several words are meant
    apt-get install --yes --quiet --no-install-recommends -o DPkg::Lock::Timeout=120 $PACKAGES >"$log" 2>&1 </dev/null
}
# Services that may not start here (a container without systemd) are no matter: instances have daemons of their own.
install || { apt-get update --quiet >"$log" 2>&1 </dev/null && install; }
if there; then
    echo "instance-packages: installed $(runc --version 2>/dev/null | head -n 1), $(ssh -V 2>&1)"
else
    echo "instance-packages: not all could be installed; the last lines of apt-get:"
    tail -n 5 "$log"
fi
rm -f "$log"
exit 0
