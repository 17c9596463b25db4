# Shared by the scripts of the test host; to be sourced. Sets host_dir, top_dir and cache.
#
# The cache holds what comes from Debian packages and what is derived from it:
#   kernel/NAME       -> one kernel: bzImage, release, modroot (has lib/modules), kdir (for building modules).
#                        The debug kernel is kernel/debug-KEY: each tree has that of its own debug.config
#   source            -> the unpacked kernel source package
#   initrd/           initramfs images, named by a hash of what is in them

set -euo pipefail

host_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top_dir=$(cd "$host_dir/../.." && pwd -P)
cache=${VMPLAT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vmplat}
all_kernels=(6.1 6.12 debug)

say() { printf 'host: %s\n' "$*" >&2; }
die() { say "$@"; exit 2; }

# Runs a command quietly and shows what it said only when it fails.
quietly() {
	local log rc=0
	log=$(mktemp)
	"$@" >"$log" 2>&1 </dev/null || rc=$?
	if [ "$rc" != 0 ]; then
		say "failed ($rc): $*"
		tail -n 40 "$log" >&2
	fi
	rm -f "$log"
	return "$rc"
}

# locked NAME COMMAND...: only one process at a time does COMMAND, the others wait for it.
locked() {
	local name=$1
	shift
	mkdir -p "$cache"
	(
		flock 9
		"$@" 9>&-
	) 9>"$cache/lock.$name"
}

# What the debug kernel is made of. Two trees whose debug.config differs have two kernels, which do not get in each
# other's way.
debug_key() { cat "$cache/source/.version" "$host_dir/debug.config" 2>/dev/null | sha256sum | cut -c1-16; }

kernel_dir() {
	local name=$1
	[ "$name" = debug ] && name=debug-$(debug_key || true)
	printf '%s/kernel/%s' "$cache" "$name"
}
kernel_release() { cat "$(kernel_dir "$1")/release"; }

# copy_modules KERNEL DIR MODULE...: uncompressed copies of the modules and of what they need; prints their names in
# the order in which they must be loaded. A module that is built in or does not exist is not printed.
copy_modules() {
	local kernel=$1 dir=$2 modroot release m name
	shift 2
	modroot=$(kernel_dir "$kernel")/modroot
	release=$(kernel_release "$kernel")
	for m; do
		modprobe -d "$modroot" -S "$release" --show-depends "$m" 2>/dev/null || true
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r m; do
		name=$(basename "$m")
		case $m in
		*.xz) name=${name%.xz}; xz -dc "$m" >"$dir/$name" ;;
		*.zst) name=${name%.zst}; zstd -qdc "$m" >"$dir/$name" ;;
		*) cp "$m" "$dir/$name" ;;
		esac
		echo "$name"
	done
}

# pack_initrd DIR OUT. Not compressed: under emulation unpacking costs more than reading.
pack_initrd() {
	(cd "$1" && find . | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible -R 0:0) >"$2.new"
	mv "$2.new" "$2"
}
