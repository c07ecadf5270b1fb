#!/bin/sh
# scripts/apt-packages.sh NAME "PACKAGES" "PROGRAMS"
#
# Install Debian packages where apt and root are there, unless all of the programs are there already. Quiet, harmless to
# run again, and never a failure: where it cannot be, a line says why, and the tests that need them say that they were
# skipped (but in CI).
set -u

name=$1 packages=$2 programs=$3
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

there() {
    for program in $programs; do
        command -v "$program" >/dev/null 2>&1 || return 1
    done
}

if there; then
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "$name: not root, so nothing was installed (wanted: $packages)"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "$name: no apt-get here, so nothing was installed (wanted: $programs)"
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
install() {
    # shellcheck disable=SC2086 # several words are meant
    apt-get install --yes --quiet --no-install-recommends -o DPkg::Lock::Timeout=120 $packages >"$log" 2>&1 </dev/null
}
# Services that may not start here (a container without systemd) are no matter: who needs daemons starts its own.
install || { apt-get update --quiet >"$log" 2>&1 </dev/null && install; }
if there; then
    echo "$name: installed $packages"
else
    echo "$name: not all could be installed; the last lines of apt-get:"
    tail -n 5 "$log"
fi
rm -f "$log"
exit 0
