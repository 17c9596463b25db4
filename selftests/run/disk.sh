#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A guest writes, flushes and re-reads files on an ext4 disk and checks their sums, for ever; it is paused and resumed,
# reset, snapshot while it works and restored from each snapshot. A wrong sum powers it off with a line that says BAD.

top=$(cd "$(dirname "$0")/../.." && pwd)
. "$(dirname "$0")/../tap.sh"
export VMPLAT_RUN_DIR=$tmp/run VMPLAT_STORE=$tmp/store VMPLAT_VM_DIR=$tmp/vms
mkdir -p "$VMPLAT_RUN_DIR" "$VMPLAT_STORE" "$VMPLAT_VM_DIR"
console=$tmp/console
clean_up() { for vm in g full inc1 inc2; do vmplat vm stop $vm >/dev/null 2>&1; done; }

# each check is about what the one before left
must() {
	check "$@"
	[ $bad = 0 ] && return
	sed 's/^/# /' "$tmp/log" | tail -5
	tail -3 "$console" | sed 's/^/# console: /'
	done_testing
}

rounds() { grep -ac '^round' "$console"; }
# More rounds of the guest's work, its checks included
more_rounds() {
	local want=$(($(rounds) + $1)) end=$((SECONDS + 240))
	until [ "$(rounds)" -ge $want ]; do
		[ $SECONDS -lt $end ] && ! grep -qa BAD "$console" || return 1
		sleep 0.5
	done
}

cat >"$tmp/script" <<'GUEST'
[ "$(head -c 5 /dev/vdb)" = hello ] && [ "$(cat /sys/block/vdb/ro)" = 1 ] || { echo "BAD read-only disk"; poweroff -f; }
mount -t ext4 -o discard /dev/vda /mnt
rm -rf /mnt/w; mkdir /mnt/w; n=0
while :; do
	n=$((n + 1)); f=$((n % 8))
	dd if=/dev/urandom of=/mnt/w/$f.new bs=32k count=$((n % 13 + 1)) 2>/dev/null
	md5sum < /mnt/w/$f.new > /tmp/sum.$f
	mv /mnt/w/$f.new /mnt/w/$f; sync
	echo 3 > /proc/sys/vm/drop_caches
	for i in 0 1 2 3 4 5 6 7; do
		[ -e /mnt/w/$i ] || continue
		[ "$(md5sum < /mnt/w/$i)" = "$(cat /tmp/sum.$i)" ] || { echo "BAD file $i round $n"; poweroff -f; }
	done
	echo "round $n ok"
done
GUEST

"$top/selftests/host/guest-initrd" "$tmp/initrd" --kernel "${VMPLAT_KERNEL/debug/6.12}" --script "$tmp/script" &&
	truncate -s 256M "$tmp/disk.img" && mkfs.ext4 -q -F "$tmp/disk.img" &&
	echo hello >"$tmp/ro.img" && truncate -s 64K "$tmp/ro.img" || exit 1

boots() {
	vmplat run --name g --kernel "$VMPLAT_GUEST_KERNEL" --initrd "$tmp/initrd" --memory 192M --cpus 2 \
		--disk "$tmp/disk.img" --disk "$tmp/ro.img,ro" --console "$console" --detach \
		--cmdline "console=ttyS0 panic=-1 quiet" </dev/null >"$tmp/log" 2>&1 && more_rounds 2
}
must "a guest works on its disks" boots
must "a second VM cannot open the disk" says "disk.img.*in use by process" \
	not vmplat run --name second --kernel "$VMPLAT_GUEST_KERNEL" --disk "$tmp/disk.img" --console none

pauses() {
	local i before
	for i in $(seq 30); do
		vmplat vm pause g >>"$tmp/log" 2>&1 || return
		if [ $((i % 10)) = 0 ]; then
			before=$(stat -c %Y.%s "$console") && sleep 0.3
			[ "$before" = "$(stat -c %Y.%s "$console")" ] || return
		fi
		vmplat vm resume g >>"$tmp/log" 2>&1 || return
		sleep 0.0$((RANDOM % 90 + 10))
	done
	more_rounds 2
}
must "30 pauses lose no request" pauses

resets() { vmplat vm reset g >>"$tmp/log" 2>&1 && more_rounds 3; }
must "a reset guest works on" resets

snapshots() { vmplat vm snapshot ${base:+--base $base} g $snap >>"$tmp/log" 2>&1 && more_rounds 3; }
base=''
for snap in full inc1 inc2; do
	must "snapshot $snap while it works" snapshots
	base=$snap
done
vmplat vm stop g >>"$tmp/log" 2>&1
must "the chain verifies" vmplat snap verify inc2

restores() {
	vmplat restore $snap --name $snap --console "$console" --detach </dev/null >>"$tmp/log" 2>&1 && more_rounds 9
}
for snap in inc2 full inc1; do
	console=$tmp/console-$snap
	must "restored from $snap, files have their sums" restores
	vmplat vm stop $snap >>"$tmp/log" 2>&1
done
done_testing
