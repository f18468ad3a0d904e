#!/usr/bin/env bash
# Runs patchgen's tests, and installs what they need.
#
#   ./test.sh         all: every patch for each reference tree compiled and booted
#   ./test.sh ci      the same, but only the kernels for 6.12 booted
#   ./test.sh quick   no kernel trees
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

packages=(git)
if [ "$mode" != quick ]; then
	packages+=(gcc make flex bison bc perl python3 xz-utils libelf-dev sparse qemu-system-x86 ccache universal-ctags)
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
		echo "run gofmt -w on:" $files
		return 1
	fi
}

staticcheck() {
	go run honnef.co/go/tools/cmd/staticcheck@v0.7.0 "$@" ./...
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
step "go mod tidy" go mod tidy -diff
step "go vet" go vet ./...
step "go vet -tags kernel" go vet -tags kernel ./...
step staticcheck staticcheck
step "staticcheck -tags kernel" staticcheck -tags kernel
step "go test" go test ./...

kernel() {
	go test -tags kernel -count=1 -v -timeout 6h ./kerneltest "$@"
}

# Opens the reference trees, and runs on them what other packages have behind the tag.
with_trees() {
	kernel -fetch -trees debian:6.1,debian:6.12,debian:7.3 | tee "$scratch/trees" || return
	PATCHGEN_TREES=$(sed -n 's/^PATCHGEN_TREES=//p' "$scratch/trees") go test -tags kernel -count=1 -timeout 1h $(tagged)
}

if [ "$mode" != quick ]; then
	scratch=$(mktemp -d)
	trap 'rm -r "$scratch"' EXIT
	step "go test -tags kernel" with_trees
fi
case $mode in
all) step "kernels" kernel -trees debian:6.1,debian:6.12,debian:7.3 ;;
ci)
	step "6.12" kernel -trees debian:6.12
	step "6.1 and 7.3, not booted" kernel -run 'TestSeries|TestPatches' -trees debian:6.1,debian:7.3 -boot=false
	;;
esac

echo
if [ ${#failed[@]} != 0 ]; then
	printf 'FAILED: %s\n' "${failed[@]}"
	exit 1
fi
echo "all passed, in $SECONDS s"
