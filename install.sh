#!/usr/bin/env bash
# Installs those of the Debian packages named that are missing.
#
#   ./install.sh PACKAGE...
#
# Of some it wants a version that the release may not have. Then it comes from the
# release's backports, and the machine's lists of sources stay as they are.
set -euo pipefail

# From which version on a package will do, and what becomes of it without.
declare -A oldest=([qemu-system-x86]=1:9.0 [meson]=1.5.0 [python3-pycotap]=1.1.0)
declare -A older=(
	[qemu-system-x86]="it loses pages by itself when it migrates without KVM: this one will do with KVM alone, else give another to patchgen test with --qemu"
	[meson]="QEMU cannot be built with it"
	[python3-pycotap]="QEMU cannot be built with it"
)

missing=() new=()
for p in "$@"; do
	status='' version=''
	read -r status version < <(dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$p" 2>/dev/null) || true
	if [ "$status" = installed ] && dpkg --compare-versions "$version" ge "${oldest[$p]-0}"; then
		continue
	fi
	if [ "${oldest[$p]-}" ]; then
		new+=("$p")
	else
		missing+=("$p")
	fi
done
[ ${#missing[@]} != 0 ] || [ ${#new[@]} != 0 ] || exit 0

echo "installing ${missing[*]} ${new[*]}" >&2
root=()
if [ "$(id -u)" != 0 ]; then
	root=(sudo)
fi

install() {
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "${own[@]}" install --no-install-recommends "$@" >&2
}

# new_enough PACKAGE [OPTION...] tells whether apt would install one that will do.
new_enough() {
	local version
	version=$(LC_ALL=C apt-cache "${own[@]}" "${@:2}" policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p')
	[ "$version" ] && [ "$version" != "(none)" ] && dpkg --compare-versions "$version" ge "${oldest[$1]}"
}

# add_backports RELEASE has apt know the release's backports too, with lists of
# its own in $own_dir.
add_backports() {
	local site list parts key=/usr/share/keyrings/debian-archive-keyring.gpg
	# shellcheck disable=SC2016 # apt's own variable
	site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' "Codename: $1" 'Component: main' | head -n 1)
	[ "$site" ] && [ -e $key ] || return
	eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
	own_dir=$(mktemp -d)
	trap '"${root[@]}" rm -r "$own_dir"' EXIT
	chmod 755 "$own_dir" # apt reads it as another user
	mkdir "$own_dir/parts" "$own_dir/lists"
	cp "$parts"/*.list "$parts"/*.sources "$own_dir/parts/" 2>/dev/null || true
	cp "$list" "$own_dir/parts/patchgen-machine.list" 2>/dev/null || true
	echo "deb [signed-by=$key] $site $1-backports main" >"$own_dir/parts/patchgen-backports.list"
	own=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$own_dir/parts" -o "Dir::State::Lists=$own_dir/lists")
	"${root[@]}" apt-get -q "${own[@]}" update >&2
}

# install_new PACKAGE installs one that will do, if there is one.
install_new() {
	local release backports
	if ! new_enough "$1"; then
		# shellcheck source=/dev/null
		release=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
		backports=(-t "$release-backports")
		if ! new_enough "$1" "${backports[@]}" && [ ${#own[@]} = 0 ]; then
			add_backports "$release" || true
		fi
		if new_enough "$1" "${backports[@]}"; then
			install "${backports[@]}" "$1"
			return
		fi
		echo "install.sh: neither $release nor its backports have $1 of ${oldest[$1]#*:} or newer. Of an older one: ${older[$1]}" >&2
	fi
	install "$1"
}

own=()
"${root[@]}" apt-get -q update >&2
if [ ${#missing[@]} != 0 ]; then
	install "${missing[@]}"
fi
for p in "${new[@]}"; do
	install_new "$p"
done
