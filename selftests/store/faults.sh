#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The snapshot store on a file system that is full, and on a disk that fails: what was there stays whole, what could
# not be stored leaves nothing, and the message says what happened. Runs as root, in the test host or elsewhere.
set -u

work=$(mktemp -d "${SCRATCH:-/tmp}/store-faults.XXXXXX") || exit 1
dm=vmplat-faults-$$
loop=
nr=0
failed=0

cleanup() {
	umount "$work/small" "$work/disk" 2>/dev/null
	dmsetup remove "$dm" 2>/dev/null
	test -n "$loop" && losetup -d "$loop"
	umount "$work/back" 2>/dev/null
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

result() {	# STATUS NAME
	nr=$((nr + 1))
	if test "$1" -eq 0; then
		echo "ok $nr $2"
	else
		echo "not ok $nr $2"
		failed=1
		sed 's/^/# /' "$work/out"
	fi
}

skip() {
	nr=$((nr + 1))
	echo "ok $nr $1 # SKIP $2"
}

# run COMMAND...; its output is in $work/out
run() { "$@" >"$work/out" 2>&1; }
says() { grep -q "$1" "$work/out"; }
whole() { run vmplat snap verify --store "$1" --all && run vmplat snap list --store "$1" && says "^$2 " && ! says "^$3 "; }
clean() { run vmplat snap gc --dry-run --store "$1" && says '^0 unfinished'; }

head -c 6000000 /dev/urandom >"$work/a"
{ head -c 3000000 "$work/a"; head -c 9000000 /dev/urandom; head -c 5000000 /dev/zero; } >"$work/b"

# ---- a full file system ----------------------------------------------------

mkdir "$work/small"
if mount -t tmpfs -o size=12m none "$work/small" 2>/dev/null; then
	store=$work/small/store
	run vmplat snap import --store "$store" --raw "$work/a" one
	result $? "a snapshot fits"
	! run vmplat snap import --store "$store" --base one --raw "$work/b" two && says 'No space left'
	result $? "the next does not, and it says why"
	whole "$store" one two
	result $? "the first is whole, the second is not there"
	clean "$store"
	result $? "nothing is left of the second"
	mount -o remount,size=40m "$work/small"
	run vmplat snap import --store "$store" --base one --raw "$work/b" two &&
		run vmplat snap export --store "$store" --raw "$work/small/back" two && cmp -s "$work/b" "$work/small/back"
	result $? "with more room it is stored, and comes back"
else
	skip "a full file system" "cannot mount tmpfs"
fi

# ---- a disk that fails -----------------------------------------------------

flaky() {	# FEATURES...: healthy without
	if test $# -eq 0; then
		echo "0 $sectors linear $loop 0"
	else
		echo "0 $sectors flakey $loop 0 0 60 $# $*"
	fi
}

table() {
	dmsetup suspend --nolockfs --noflush "$dm" && flaky "$@" | dmsetup load "$dm" && dmsetup resume "$dm"
}

# the test host has a modprobe of its own, which the kernel knows
for module in loop dm-mod dm-flakey ext4; do
	"$(cat /proc/sys/kernel/modprobe)" -q "$module" 2>/dev/null
done
# and no udev, which would make /dev/mapper/NAME; the kernel makes /dev/dm-N
export DM_DISABLE_UDEV=1
device() { echo "/dev/dm-$(dmsetup info -c --noheadings -o minor "$dm" | tr -d ' ')"; }
mkdir "$work/disk" "$work/back"
# $SCRATCH may itself lie where a loop device cannot read: keep its file in a tmpfs
if mount -t tmpfs -o size=100m none "$work/back" 2>/dev/null && truncate -s 64M "$work/back/img" &&
   loop=$(losetup -f --show "$work/back/img" 2>/dev/null) && sectors=$(blockdev --getsz "$loop") &&
   flaky | dmsetup create "$dm" >"$work/out" 2>&1 && dmsetup targets | grep -q '^flakey' &&
   dev=$(device) && run mkfs.ext4 -q "$dev" && mount "$dev" "$work/disk"; then
	store=$work/disk/store
	run vmplat snap import --store "$store" --raw "$work/a" one
	result $? "a snapshot on a healthy disk"
	table error_writes
	! run vmplat snap import --store "$store" --base one --raw "$work/b" two
	result $? "none on a disk that fails: $(tr '\n' ' ' <"$work/out" | cut -c 1-120)"
	umount -l "$work/disk"
	table
	# the journal was aborted; the next mount replays it
	for i in 1 2 3 4 5 6 7 8 9 10; do
		mount "$dev" "$work/disk" 2>/dev/null && break
		sleep 1
	done
	whole "$store" one two
	result $? "after the disk is mended the first is whole, the second is not there"
	run vmplat snap import --store "$store" --base one --raw "$work/b" two && clean "$store" &&
		run vmplat snap verify --store "$store" --all
	result $? "and the second can be stored, which sweeps what was left"

	# pull the plug: writes are lost from now on, and what is only in memory goes with the unmount
	run vmplat snap import --store "$store" --base two --raw "$work/a" three
	table drop_writes
	umount -l "$work/disk"
	table
	for i in 1 2 3 4 5 6 7 8 9 10; do
		mount "$dev" "$work/disk" 2>/dev/null && break
		sleep 1
	done
	run vmplat snap verify --store "$store" three &&
		run vmplat snap export --store "$store" --raw "$work/back/three" three && cmp -s "$work/a" "$work/back/three"
	result $? "a snapshot that was reported complete survives lost writes right after"
	umount "$work/disk"
else
	skip "a disk that fails" "no loop device, device mapper, flakey target or mkfs.ext4 here: $(tr '\n' ' ' <"$work/out")"
fi

echo "1..$nr"
exit $failed
