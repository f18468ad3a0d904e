#!/usr/bin/env bash
# Runs patchgen's tests, and installs what they need.
#
#   ./test.sh         all: every patch for each reference tree compiled and booted,
#                     both variants for these and for 5.10 and 7.2 compiled,
#                     all of patchgen test on each with all mutants, and the proof
#                     again 20 times
#   ./test.sh ci      the same, but on 6.12 alone and once; of 6.1 and 7.3 the proof;
#                     QEMU with its series, and the hand-shake
#   ./test.sh quick   no kernel trees
#
# With SCREENSHOTS=DIR, what a browser shows of the report is kept in DIR.
set -uo pipefail
cd "$(dirname "$0")" || exit

mode=${1-all}
case $mode in
all | ci | quick) ;;
*)
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac

packages=(git shellcheck)
if [ "$mode" != quick ]; then
	packages+=(gcc make flex bison bc perl python3 xz-utils libelf-dev sparse qemu-system-x86 ccache universal-ctags codespell git-email libmailtools-perl b4 bsdutils)
	# What the report is looked at with.
	packages+=(chromium)
	# What QEMU is built with.
	packages+=(meson ninja-build pkg-config python3-pycotap python3-venv libglib2.0-dev libpixman-1-dev)
fi

failed=()

# step NAME COMMAND... runs the command, says how long it took, and remembers a failure.
step() {
	local name=$1 start=$SECONDS
	shift
	echo "== $name"
	if "$@"; then
		echo "== $name: done in $((SECONDS - start)) s"
	else
		echo "== $name: FAILED after $((SECONDS - start)) s"
		failed+=("$name")
	fi
}

formatted() {
	local files
	files=$(gofmt -l .) || return
	if [ -n "$files" ]; then
		echo "run gofmt -w on: ${files//$'\n'/ }"
		return 1
	fi
}

staticcheck() {
	go run honnef.co/go/tools/cmd/staticcheck@v0.7.0 "$@" ./...
}

actionlint() {
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
}

# Packages other than kerneltest that have tests behind the tag.
tagged() {
	grep -rl --include='*_test.go' '^//go:build kernel' . | xargs -n 1 dirname | sort -u | grep -v '^\./kerneltest$'
}

if ! command -v go >/dev/null; then
	echo "go is missing: install Go 1.26 or newer from https://go.dev/dl" >&2
	exit 1
fi
step packages ./install.sh "${packages[@]}"
[ ${#failed[@]} = 0 ] || exit 1

step gofmt formatted
step shellcheck shellcheck install.sh test.sh .ci/run
step actionlint actionlint
step "go mod tidy" go mod tidy -diff
step "go vet" go vet ./...
step "go vet -tags kernel" go vet -tags kernel ./...
step staticcheck staticcheck
step "staticcheck -tags kernel" staticcheck -tags kernel
step "go test" go test ./...

kernel() {
	go test -tags kernel -count=1 -v -timeout 6h ./kerneltest "$@"
}

# Opens the reference trees, builds the kernel that other packages boot, and runs
# what those packages have behind the tag.
with_trees() {
	local packages
	kernel -fetch | tee "$scratch/fetched" || return
	readarray -t packages < <(tagged)
	# shellcheck disable=SC2046 # the cache has no space in its name
	env $(grep '^PATCHGEN_[A-Z]*=' "$scratch/fetched") go test -tags kernel -count=1 -timeout 1h "${packages[@]}"
}

# Both variants on trees.
matrix() {
	go run ./cmd/patchgen trees --matrix "$@"
}

# Whether apt has a QEMU that is unsound, for the test that this is seen.
has_old_qemu() {
	apt-cache madison qemu-system-x86 | awk '{print $3}' | while read -r version; do
		dpkg --compare-versions "$version" lt 1:9 && echo "$version"
	done | grep -q .
}

if [ "$mode" != quick ]; then
	scratch=$(mktemp -d)
	trap 'rm -r "$scratch"' EXIT
	step "go test -tags kernel" with_trees
	# What runs patchgen test, and what else there is.
	shots=(${SCREENSHOTS:+-screenshots "$(realpath -m "$SCREENSHOTS")"})
	migrations='TestReport|TestProof|TestHandshake|TestFaultySeries|TestEnds|TestOldQEMU|TestRepeat|TestMemory|TestShell'
fi
case $mode in
all)
	step "kernels" kernel -skip "$migrations|TestSpeed"
	step "both variants on all trees" matrix --compile debian:5.10 debian:6.1 debian:6.12 debian:7.2 debian:7.3
	step "patchgen's own speed" kernel -run TestSpeed
	for tree in $(go run ./cmd/patchgen trees --series dma-mark-dirty | awk 'NR > 1 {print $1}'); do
		step "all that patchgen test has, on $tree" kernel -run TestProof -proof-tree "$tree" -mutants
	done
	step "the hand-shake" kernel -run TestHandshake -mutants
	has_old_qemu && old=() || old=(-old-qemu none)
	step "proof in all its ways" kernel -run "$migrations" -skip 'TestProof|TestHandshake' -repeat 20 "${old[@]}" "${shots[@]}"
	;;
ci)
	step "6.12" kernel -skip "$migrations|TestKernels|TestSpeed" -trees debian:6.12
	step "both variants on all trees, not compiled" matrix debian:5.10 debian:6.1 debian:6.12 debian:7.2 debian:7.3
	step "6.1 and 7.3, neither compiled nor booted" kernel -run TestPatches -trees debian:6.1,debian:7.3
	step "all that patchgen test has, on 6.12" kernel -run TestProof -mutants
	step "the hand-shake, on 6.12" kernel -run TestHandshake
	step "proof in some of its ways, and the report" kernel -run 'TestEnds|TestReport' "${shots[@]}"
	for tree in debian:6.1 debian:7.3; do
		step "proof on $tree" kernel -run TestProof -proof-tree "$tree" -proof-tests proof
	done
	;;
esac

echo
if [ ${#failed[@]} != 0 ]; then
	printf 'FAILED: %s\n' "${failed[@]}"
	exit 1
fi
echo "all passed, in $SECONDS s"
