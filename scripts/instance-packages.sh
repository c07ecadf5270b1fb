#!/bin/sh
# Install what leased instances need on a node: an SSH server, network namespaces, a container runtime, the sandbox of jobs.
exec "$(dirname "$0")/apt-packages.sh" instance-packages \
    "openssh-server openssh-client bubblewrap iproute2 runc util-linux" \
    "sshd ssh ssh-keygen bwrap ip runc nsenter setpriv"
