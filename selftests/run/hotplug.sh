#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Disks, network devices and memory come to a running guest and go again: taken, used, given back, refused, withdrawn;
# snapshot and restored while they are plugged in; found again after a reset. Runs in the test host.
#
# The guest is a shell that reads from its console, so that each step can wait for its end.
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$(dirname "$0")/../tap.sh"
. "$(dirname "$0")/guest.sh"
device() { vmplat vm device "$@"; }
memtotal() { in_guest "$1" "grep MemTotal /proc/meminfo" | awk '{ print $2 }'; }
has() { device list "$1" | grep -q "^$2 .*$3"; }

export VMPLAT_RUN_DIR=$tmp/vms VMPLAT_STORE=$tmp/store VMPLAT_VM_DIR=$tmp/disks
clean_up() {
	for v in a b; do
		[ $bad = 0 ] || tail -n 25 "$tmp/$v.out" "$tmp/$v.err" 2>/dev/null | sed "s/^/# $v: /"
		vmplat vm stop $v 2>/dev/null
	done
	exec 7>&- 8>&-
	wait
}
modprobe() { if [ -x /run/modprobe ]; then /run/modprobe "$@"; else command modprobe "$@"; fi; }
modprobe -q tun
[ -e /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; }
tap() { ip tuntap add "$1" mode tap && ip addr add "$2" dev "$1" && ip link set "$1" up; }
tap vmp0 10.9.0.1/24
tap vmp1 10.9.1.1/24
tap vmp2 10.9.3.1/24

cat >"$tmp/script" <<'GUEST'
stty -echo
mount -t tmpfs -o size=1g none /mnt
mkdir /tmp/d
echo READY
while read -r line; do eval "$line"; done
GUEST
"$top/selftests/host/guest-initrd" "$tmp/initrd" --kernel "${VMPLAT_KERNEL/debug/6.12}" --script "$tmp/script" || exit 1
truncate -s 16M "$tmp/data.raw" "$tmp/more.raw"
mkfs.ext4 -q -F "$tmp/data.raw" && mkfs.ext4 -q -F "$tmp/more.raw"

check "a network of no kind" says "is none of tap=NAME" vmplat run -k "$VMPLAT_GUEST_KERNEL" --net wire
check "a MAC that is none" says "no MAC address" vmplat run -k "$VMPLAT_GUEST_KERNEL" --net tap=x,mac=02:00
start a vmplat run --name a --kernel "$VMPLAT_GUEST_KERNEL" --initrd "$tmp/initrd" --memory 160M --cpus 2 \
	--net tap=vmp0,mac=02:00:00:00:00:0a --cmdline "console=ttyS0 quiet memhp_default_state=online_movable"
exec 7>"$tmp/a.in"
check "a guest boots" wait_for "$tmp/a.out" '^READY' 250
check "ACPI has nothing to complain about" not in_guest a "dmesg | grep -i 'acpi.*error\|ACPI BIOS\|ged.*fail'"
check "its network device is plugged in" has a net0 "present *up"
check "guest pings host" in_guest a "ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up; ping -c 2 -W 20 10.9.0.1"
check "host pings guest" busybox ping -c 2 -W 20 10.9.0.2

# 4 MiB each way: segments far larger than a frame, merged buffers, checksums that nobody computed
head -c 4M /dev/urandom >"$tmp/blob"
sum=$(md5sum <"$tmp/blob")
stream() {
	socat -u "OPEN:$tmp/blob" TCP-LISTEN:4000,reuseaddr &
	in_guest a "until nc 10.9.0.1 4000 >/tmp/blob; do sleep 0.2; done; md5sum </tmp/blob" | grep -q "${sum% *}" && wait $! || return
	socat -u TCP-LISTEN:4001,reuseaddr "CREATE:$tmp/back" &
	in_guest a "until nc 10.9.0.1 4001 </tmp/blob; do sleep 0.2; done; rm /tmp/blob" && wait $! && cmp "$tmp/blob" "$tmp/back"
}
check "a stream each way arrives whole" stream

# ---- disks
check "no such file" says "nofile: No such file" device add a blk file="$tmp/nofile"
check "no such type" says "none of blk, net, memory" device add a floppy file="$tmp/data.raw"
check "no id of a device" says "is no id" device add a blk file="$tmp/data.raw",id=Data
check "add a disk" says '^data$' device add a blk file="$tmp/data.raw",id=data
check "it is listed" has a data "blk *present *up"
check "add it again: it is there" says '^data$' device add a blk file="$tmp/data.raw",id=data
check "its id for another file" says "it is another" device add a blk file="$tmp/more.raw",id=data
check "its file for another id" says "in use by process" device add a blk file="$tmp/data.raw",id=other
# A driver that is up has not shown its disk yet.
vda="until [ -b /dev/vda ]; do sleep 0.1; done"
check "the guest writes to it" in_guest a "$vda; mount /dev/vda /tmp/d && echo hello >/tmp/d/f && sync && cat /tmp/d/f"
check "the guest lets go of it" in_guest a "umount /tmp/d"
check "remove the disk" device remove a data
check "it is gone from the guest" not in_guest a "test -e /sys/block/vda"
check "it is gone from the list" not has a data
check "its image is free" flock -n "$tmp/data.raw" true
check "remove it again" says "there is no device 'data'" device remove a data
check "remove it if it is there" device remove a data --if-present
check "add it read-only" device add a blk file="$tmp/data.raw",ro,id=data
check "what was written is on it" in_guest a "$vda; mount -o ro /dev/vda /tmp/d && grep hello /tmp/d/f"
check "remove it while it is mounted" device remove a data
check "the guest lives on" in_guest a "umount -l /tmp/d; true"
check "remove the disk of the guest's own will" says '^own$' device add a blk file="$tmp/data.raw",id=own
check "the guest ejects it" in_guest a 'echo 0 >/sys/bus/pci/slots/2/power'
ejected() { local i; for i in $(seq 100); do has a own || return 0; sleep 0.1; done; return 1; }
check "what the guest ejects is gone" ejected

# ---- networks
check "add a network device" device add a net tap=vmp1,id=lan
check "the guest pings through it" in_guest a \
	"ip addr add 10.9.1.2/24 dev eth1; ip link set eth1 up; ping -c 2 -W 20 10.9.1.1"
check "its tap is in use" says "somebody uses it already" device add a net tap=vmp1
check "remove the network device" device remove a lan
check "it is gone from the guest, too" not in_guest a "test -e /sys/class/net/eth1"
check "add a wire" device add a net socket="$tmp/wire",id=wire,mac=02:00:00:00:00:77
check "nobody is at its other end yet" in_guest a "ip addr add 10.9.2.1/24 dev eth1; ip link set eth1 up"

# ---- memory
check "memory in odd lengths" says "multiples of 128 MiB" device add a memory size=100M
check "too much memory" says "must not be more" device add a memory size=64G
before=$(memtotal a)
check "add memory" says '^m1$' device add a memory size=128M,id=m1
after=$(memtotal a)
echo "# MemTotal $before kB, then $after kB"
check "the guest has it" test $((after - before)) -gt 120000
check "the guest fills it" in_guest a "yes abcdefg | head -c 48m >/mnt/f && md5sum </mnt/f >/tmp/sum"

# ---- snapshots
check "full snapshot" vmplat vm snapshot a s1
check "add memory and a disk after it" device add a memory size=128M,id=m2
check "and the disk" device add a blk file="$tmp/more.raw",id=more
check "the guest works on both" in_guest a "$vda; mount /dev/vda /tmp/d && echo two >/tmp/d/f && sync &&
	yes more | head -c 32m >/mnt/g && md5sum </mnt/g >/tmp/sum2"
check "increment with what came since" vmplat vm snapshot --incremental a s2
check "verify" vmplat snap verify s2
check "what was plugged in is stored" says '"m2"' vmplat snap show s2 --json
start b vmplat restore s2 --name b --net tap=vmp2
exec 8>"$tmp/b.in"
answers() { local end=$((SECONDS + 120)); until vmplat vm show b; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done; }
check "restore that" answers
check "restored, it has the same devices" has b m2 "memory *present"
check "and its disk" has b more "blk *present *up"
check "its memory is what it was" in_guest b "md5sum </mnt/f | cmp - /tmp/sum && md5sum </mnt/g | cmp - /tmp/sum2"
check "its disk is what it was" in_guest b "echo 3 >/proc/sys/vm/drop_caches; grep two /tmp/d/f"
check "two guests on one wire" in_guest b "ip addr flush dev eth1; ip addr add 10.9.2.2/24 dev eth1; ping -c 2 -W 20 10.9.2.1"
check "increment on what it came from" vmplat vm snapshot --incremental b s3
check "the restored guest gives memory back" in_guest b "rm /mnt/f /mnt/g"
check "remove memory from it" device remove b m2 --timeout 60
check "and the disk, mounted" device remove b more
check "snapshot without them" vmplat vm snapshot --incremental b s4
check "verify that" vmplat snap verify s4
check "stop it" vmplat vm stop b

# ---- refusals
check "a guest that is paused cannot answer" says "resume it first" sh -c 'vmplat vm pause a; vmplat vm device remove a m1'
check "resume" vmplat vm resume a
check "the first guest gives memory back" in_guest a "rm /mnt/f /mnt/g"
check "remove memory" device remove a m1 --timeout 60
check "remove the other" device remove a m2 --timeout 60
left=$(memtotal a)
check "the guest has what it had" test "$left" = "$before"
check "memory for its kernel" in_guest a "echo online_kernel >/sys/devices/system/memory/auto_online_blocks"
check "add memory that will be pinned" device add a memory size=128M,id=pinned
check "the kernel puts things there" in_guest a 'mkdir /mnt/many; for i in $(seq 3000); do : >/mnt/many/$i; done'
check "the guest refuses to give it up" says "does not give pinned up" device remove a pinned --timeout 60
check "it is still there" has a pinned "memory *present"
check "and works" in_guest a 'ls /mnt/many | wc -l | grep 3000'

check "a driver that is not there" in_guest a "rmmod virtio_net"
check "nobody drives a device" says "did not take lan within 2 s" device add a net tap=vmp1,id=lan --timeout 2
check "it was taken out again" not has a lan
check "in the guest, too" in_guest a 'ls /sys/bus/pci/devices | wc -l | grep -x 5'

check "the guest dies" sh -c "echo 'echo c >/proc/sysrq-trigger' >'$tmp/a.in'"
check "of that" wait_for "$tmp/a.out" "end Kernel panic" 60
device add a blk file="$tmp/data.raw",id=data --timeout 600 >"$tmp/late" 2>&1 &
late=$!
check "a device on its way" sh -c 'until vmplat vm device list a | grep -q "^data .*adding"; do sleep 0.1; done'
check "no snapshot meanwhile" says "on its way in" vmplat vm snapshot a s9
check "no second request either" says "is adding" device remove a data
check "the dead take nothing" says "did not take net1 within 1 s" device add a net tap=vmp1 --timeout 1
check "it was taken out at once" not has a net1
check "the dead give nothing" says "did not give net0 up within 1 s" device remove a net0 --timeout 1
check "it is there as before" has a net0 "net *present"

check "reset" vmplat vm reset a
rebooted() { local end=$((SECONDS + 250)); until [ "$(grep -ca '^READY' "$tmp/a.out")" = 2 ]; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done; }
check "the guest boots again" rebooted
again=$(memtotal a)
echo "# MemTotal $again kB after the reset"
check "and finds the memory that is plugged in" test $((again - before)) -gt 120000
check "and the disk that was on its way" wait $late
check "which is present now" has a data "blk *present *up"
check "and the networks" in_guest a "test -e /sys/class/net/eth1"
check "stop" vmplat vm stop a
done_testing
