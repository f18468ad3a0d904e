#!/usr/bin/env bash
# Installs those of the Debian packages named that are missing.
#
#   ./install.sh PACKAGE...
set -euo pipefail

missing=()
for p in "$@"; do
	if [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" != installed ]; then
		missing+=("$p")
	fi
done
[ ${#missing[@]} != 0 ] || exit 0

echo "installing ${missing[*]}" >&2
root=()
if [ "$(id -u)" != 0 ]; then
	root=(sudo)
fi
"${root[@]}" apt-get -q update >&2
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${missing[@]}" >&2
