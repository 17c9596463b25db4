#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The library as its users have it: installed below a directory of its own, found through pkg-config.
# Each header compiles alone, as C and as C++; each example builds without a warning, shared and
# static, and runs.
cd "$(dirname "$0")/.." || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
root=$work/root
nr=0 failed=0

check() {
	name=$1
	shift
	nr=$((nr + 1))
	if "$@" >"$work/log" 2>&1; then
		echo "ok $nr - $name"
	else
		echo "not ok $nr - $name"
		sed 's/^/# /' "$work/log"
		failed=1
	fi
}

pc() {
	PKG_CONFIG_SYSROOT_DIR="$root" PKG_CONFIG_PATH="$root/opt/vmplat/lib/pkgconfig" pkg-config "$@" vmplat
}

header() {
	echo "#include <$2>" >"$work/alone.$3"
	$1 $(pc --cflags) -Wall -Wextra -Werror -pedantic-errors -Wno-variadic-macros -fsyntax-only "$work/alone.$3"
}

build() {
	out=$1 src=$2
	shift 2
	"${CC:-cc}" -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Wno-unused-parameter -Werror "$src" -o "$out" \
		$(pc --cflags) "$@"
}

shared() { build "$work/$1" "../examples/$1.c" $(pc --libs); }
static() { build "$work/$1-static" "../examples/$1.c" -Wl,-Bstatic -lvmplat -Wl,-Bdynamic $(pc --libs --static); }
run() { LD_LIBRARY_PATH=$root/opt/vmplat/lib timeout 60 "$work/$1"; }
gone() { [ -z "$(find "$root" ! -type d)" ]; }

check install make -s install DESTDIR="$root" prefix=/opt/vmplat
if [ $failed = 1 ]; then
	echo "1..$nr"
	exit 1
fi
for h in "$root"/opt/vmplat/include/*.h; do
	h=${h##*/}
	check "$h as C" header "${CC:-cc} -std=gnu11" "$h" c
	check "$h as C++" header "${CXX:-c++} -std=c++17" "$h" cc
done
for e in ../examples/*.c; do
	e=$(basename "$e" .c)
	check "$e builds" shared "$e"
	check "$e runs" run "$e"
	check "$e builds with the static library" static "$e"
	check "$e runs without the shared one" timeout 60 "$work/$e-static"
done
make -s uninstall DESTDIR="$root" prefix=/opt/vmplat
check "uninstall leaves nothing" gone
echo "1..$nr"
exit $failed
