#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A guest writes, flushes and re-reads files on an ext4 disk and checks their sums, for ever; it is paused and resumed,
# reset, snapshot while it works and restored from each snapshot. A wrong sum powers it off with a line that says BAD.

top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d /tmp/vmplat-disk.XXXXXX)
export VMPLAT_RUN_DIR=$work/run VMPLAT_STORE=$work/store VMPLAT_VM_DIR=$work/vms
mkdir -p "$VMPLAT_RUN_DIR" "$VMPLAT_STORE" "$VMPLAT_VM_DIR"
console=$work/console nr=0 failed=0
cleanup() {
	for vm in g full inc1 inc2; do vmplat vm stop $vm >/dev/null 2>&1; done
	rm -rf "$work"
}
trap cleanup EXIT

ok() {
	local rc=$? what=$1
	nr=$((nr + 1))
	if [ $rc = 0 ]; then echo "ok $nr - $what"; else echo "not ok $nr - $what"; failed=1; fi
	return $rc
}

give_up() {
	sed 's/^/# /' "$work/log" | tail -5
	tail -3 "$console" | sed 's/^/# console: /'
	echo "1..$nr"
	exit 1
}

rounds() { grep -ac '^round' "$console"; }
# More rounds of the guest's work, its checks included
more_rounds() {
	local want=$(($(rounds) + $1)) i
	for i in $(seq 240); do
		[ "$(rounds)" -ge $want ] && return
		grep -qa BAD "$console" && return 1
		sleep 0.5
	done
	return 1
}

cat >"$work/script" <<'GUEST'
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

"$top/selftests/host/guest-initrd" "$work/initrd" --kernel "${VMPLAT_KERNEL/debug/6.12}" --script "$work/script" &&
	truncate -s 256M "$work/disk.img" && mkfs.ext4 -q -F "$work/disk.img" &&
	echo hello >"$work/ro.img" && truncate -s 64K "$work/ro.img" || exit 1

vmplat run --name g --kernel "$VMPLAT_GUEST_KERNEL" --initrd "$work/initrd" --memory 192M --cpus 2 \
	--disk "$work/disk.img" --disk "$work/ro.img,ro" --console "$console" --detach \
	--cmdline "console=ttyS0 panic=-1 quiet" </dev/null >"$work/log" 2>&1 && more_rounds 2
ok "a guest works on its disks" || give_up

! vmplat run --name second --kernel "$VMPLAT_GUEST_KERNEL" --disk "$work/disk.img" --console none </dev/null >"$work/log" 2>&1 &&
	grep -q "disk.img.*in use by process" "$work/log"
ok "a second VM cannot open the disk" || sed 's/^/# /' "$work/log"

pauses() {
	local i before
	for i in $(seq 30); do
		vmplat vm pause g >>"$work/log" 2>&1 || return
		if [ $((i % 10)) = 0 ]; then
			before=$(stat -c %Y.%s "$console") && sleep 0.3
			[ "$before" = "$(stat -c %Y.%s "$console")" ] || return
		fi
		vmplat vm resume g >>"$work/log" 2>&1 || return
		sleep 0.0$((RANDOM % 90 + 10))
	done
	more_rounds 2
}
pauses
ok "30 pauses lose no request" || give_up

vmplat vm reset g >>"$work/log" 2>&1 && more_rounds 3
ok "a reset guest works on" || give_up

base=''
for snap in full inc1 inc2; do
	vmplat vm snapshot ${base:+--base $base} g $snap >>"$work/log" 2>&1 && more_rounds 3
	ok "snapshot $snap while it works" || give_up
	base=$snap
done
vmplat vm stop g >>"$work/log" 2>&1
vmplat snap verify inc2 >>"$work/log" 2>&1
ok "the chain verifies" || give_up

for snap in inc2 full inc1; do
	console=$work/console-$snap
	vmplat restore $snap --name $snap --console "$console" --detach </dev/null >>"$work/log" 2>&1 && more_rounds 9
	ok "restored from $snap, files have their sums" || give_up
	vmplat vm stop $snap >>"$work/log" 2>&1
done
echo "1..$nr"
exit $failed
