#!/bin/sh
# Known vulnerabilities of what we pin. Fails on a finding; where the advisory service cannot be reached, says so.
set -u
cd "$(dirname "$0")/.."
said=$("${1:-.venv/bin/pip-audit}" --disable-pip --no-deps --timeout 10 --progress-spinner off -r requirements.lock 2>&1)
status=$?
if [ $status -ne 0 ] && ! printf '%s' "$said" | grep -q 'known vulnerabilit'; then
    echo "audit: the advisory service cannot be reached; nothing was audited"
    exit 0
fi
if printf '%s' "$said" | grep -q 'could not be audited'; then
    echo "audit: $(printf '%s\n' "$said" | grep -c 'could not be audited') packages are not known to the advisory service here"
fi
printf '%s\n' "$said" | grep -v 'could not be audited'
exit $status
