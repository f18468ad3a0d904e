#!/usr/bin/env bash
# Installs those of the Debian packages named that are missing.
#
#   ./install.sh PACKAGE...
#
# Of qemu-system-x86 it wants 9.0 or newer: an older QEMU loses pages by itself
# when it migrates without KVM. Where the release has none, it comes from the
# release's backports, and the machine's lists of sources stay as they are.
set -euo pipefail

readonly qemu=qemu-system-x86 oldest=1:9.0

missing=()
want_qemu=
for p in "$@"; do
	read -r status version < <(dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$p" 2>/dev/null) || true
	if [ "$p" = $qemu ] && { [ "${status-}" != installed ] || dpkg --compare-versions "$version" lt $oldest; }; then
		want_qemu=yes
	elif [ "${status-}" != installed ]; then
		missing+=("$p")
	fi
done
[ ${#missing[@]} != 0 ] || [ $want_qemu ] || exit 0

echo "installing ${missing[*]} ${want_qemu:+$qemu}" >&2
root=()
if [ "$(id -u)" != 0 ]; then
	root=(sudo)
fi

install() {
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "${own[@]}" install --no-install-recommends "$@" >&2
}

# new_enough [OPTION...] tells whether apt would install a QEMU that will do.
new_enough() {
	local version
	version=$(LC_ALL=C apt-cache "${own[@]}" "$@" policy $qemu 2>/dev/null | sed -n 's/^  Candidate: //p')
	[ "$version" ] && [ "$version" != "(none)" ] && dpkg --compare-versions "$version" ge $oldest
}

# add_backports RELEASE has apt know the release's backports too, with lists of
# its own in $own_dir.
add_backports() {
	local site list parts key=/usr/share/keyrings/debian-archive-keyring.gpg
	# shellcheck disable=SC2016 # apt's own variable
	site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' "Codename: $1" 'Component: main' | head -n 1)
	[ "$site" ] && [ -e $key ] || return
	eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
	mkdir "$own_dir/parts" "$own_dir/lists"
	cp "$parts"/*.list "$parts"/*.sources "$own_dir/parts/" 2>/dev/null || true
	cp "$list" "$own_dir/parts/patchgen-machine.list" 2>/dev/null || true
	echo "deb [signed-by=$key] $site $1-backports main" >"$own_dir/parts/patchgen-backports.list"
	own=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$own_dir/parts" -o "Dir::State::Lists=$own_dir/lists")
	"${root[@]}" apt-get -q "${own[@]}" update >&2
}

install_qemu() {
	local release backports
	if ! new_enough; then
		# shellcheck source=/dev/null
		release=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
		backports=(-t "$release-backports")
		new_enough "${backports[@]}" || add_backports "$release" || true
		if new_enough "${backports[@]}"; then
			install "${backports[@]}" $qemu
			return
		fi
		own=()
		echo "install.sh: neither $release nor its backports have a QEMU of ${oldest#*:} or newer: this one will do with KVM alone, else give another to patchgen test with --qemu" >&2
	fi
	install $qemu
}

own=()
"${root[@]}" apt-get -q update >&2
if [ ${#missing[@]} != 0 ]; then
	install "${missing[@]}"
fi
if [ $want_qemu ]; then
	own_dir=$(mktemp -d)
	trap '"${root[@]}" rm -r "$own_dir"' EXIT
	chmod 755 "$own_dir" # apt reads it as another user
	install_qemu
fi
