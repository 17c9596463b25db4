#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# PCI functions of the host in a guest: edu's registers, DMA and interrupts, driven by a program in the guest; a network
# card with MSI-X, by the guest's e1000e; a VF, by its igbvf; two of one IOMMU group; plugged, unplugged, reset by the
# guest, asked back by the host, kept by a dead guest and taken by force; refusals, and what is left after kill -9. Runs in
# the test host, with an IOMMU.
#
# The guest is a shell that reads from its console, so that each step can wait for its end.
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$(dirname "$0")/../tap.sh"
. "$(dirname "$0")/guest.sh"

export VMPLAT_RUN_DIR=$tmp/vms VMPLAT_STORE=$tmp/store VMPLAT_CLAIMS_DIR=$tmp/claims
mkdir "$VMPLAT_STORE"
clean_up() {
	[ $bad = 0 ] || tail -n 40 "$tmp/a.out" "$tmp/a.err" 2>/dev/null | sed "s/^/# a: /"
	vmplat vm stop a 2>/dev/null
	exec 7>&-
	wait
	vmplat claim release "$edu" "$vf" "$nic" "${twins[0]}" --any-owner 2>/dev/null
	echo 0 >"$pci/$pf/sriov_numvfs"
}

# ---- what there is: an edu behind a port, which can be reset; a network card with VFs, and one that shares its wire; and
# two edus behind one bridge
pci=/sys/bus/pci/devices
qmp() { "$top/selftests/host/qmp" "$@" || true; }
modprobe() { if [ -x /run/modprobe ]; then /run/modprobe "$@"; else command modprobe "$@"; fi; }
driver() { [ -e "$pci/$1/driver" ] && basename "$(readlink "$pci/$1/driver")"; }
behind() {	# BRIDGE VENDOR DEVICE: such functions behind such a bridge, by the number of its device
	local d above
	for d in "$pci"/*; do
		above=$(dirname "$(readlink -f "$d")")
		[ "$(cat "$d/vendor")$(cat "$d/device")" = "$2$3" ] && grep -qs "$1" "$above/device" && basename "$d"
	done
}
port=0x000c bridge=0x000e
until_there() { local end=$((SECONDS + 120)); until "$@" | grep -q .; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done; }
qmp device_add '{"driver": "igb", "id": "igb0", "bus": "rp1", "netdev": "wire0"}'
qmp device_add '{"driver": "e1000e", "id": "nic0", "bus": "rp2", "netdev": "wire1"}'
qmp device_add '{"driver": "edu", "id": "edu1", "bus": "rp3"}'
until_there behind $port 0x8086 0x10c9 && until_there behind $port 0x8086 0x10d3 && until_there behind $port 0x1234 0x11e8 || exit 1
pf=$(behind $port 0x8086 0x10c9) nic=$(behind $port 0x8086 0x10d3) edu=$(behind $port 0x1234 0x11e8)
mapfile -t twins < <(behind $bridge 0x1234 0x11e8)
modprobe igb
modprobe vfio-pci
until_there driver "$pf"
echo 0 >"$pci/$pf/sriov_drivers_autoprobe"
echo 2 >"$pci/$pf/sriov_numvfs"
vf=$(basename "$(readlink "$pci/$pf/virtfn1")")
echo "# edu $edu, PF $pf, VF 1 $vf, card $nic, twins ${twins[*]}"

cat >"$tmp/script" <<'GUEST'
stty -echo
echo READY
while read -r line; do eval "$line"; done
GUEST
"$top/selftests/host/guest-initrd" "$tmp/initrd" --kernel "${VMPLAT_KERNEL/debug/6.12}" --script "$tmp/script" \
	--module igbvf --module e1000e --module uio_pci_generic --add "$top/build/selftests/run/edu:/bin/edu" || exit 1
look() { vmplat run -k "$VMPLAT_GUEST_KERNEL" --check --device "$@"; }
locked() { awk '/VmLck/ { print $2 }' "/proc/$(pgrep -f 'name a ')/status"; }

# ---- refusals, each with what helps
check "no such function" says "0000:77:00.0" not look 0000:77:00.0
check "no name of a function" says "behind '#' comes the number of a VF" not look "$pf#x"
check "a bridge" says "is a bridge" not look 0000:00:00.0
check "no driver of VFIO" says "no driver has $edu; .vmplat claim add $edu" not look "$edu"
check "a driver of the host" says "is driven by igb, for the host" not look "$pf"
check "no such VF" says "has 2 virtual functions, and none is number 2" not look "$pf#2"
check "no VFs at all" says "has no virtual functions" not look "$edu#0"
check "claim it for somebody" vmplat claim add --owner ops "$edu"
check "it is somebody else's" says "is claimed by 'ops' (claim 1), not by 'root'" not look "$edu"
check "which can be meant" says "device *$edu, dev0" look "$edu,owner=ops"
check "not for a machine of QEMU's" says "is given no devices of the host" not look "$edu,owner=ops" --firmware seabios

# ---- from the start
start a vmplat run --name a --kernel "$VMPLAT_GUEST_KERNEL" --initrd "$tmp/initrd" --memory 160M --cpus 2 \
	--device "$edu,owner=ops,id=edu" --cmdline "console=ttyS0 quiet memhp_default_state=online_movable"
exec 7>"$tmp/a.in"
check "a guest boots with it" wait_for "$tmp/a.out" '^READY' 250
check "it is in its list" says "edu *pci *present" vmplat vm device list a
check "all of its memory is locked for it" test "$(locked)" = $((160 * 1024))
check "nobody else can have it" says "$edu is in use: /dev/vfio/.* is open in process" not look "$edu,owner=ops"
check "the guest drives it" in_guest a edu
check "no snapshot of that" says "the guest has edu of the host" not vmplat vm snapshot a s1
check "add memory" vmplat vm device add a memory size=128M,id=more --timeout 250
check "it is locked, too" test "$(locked)" = $((288 * 1024))
check "DMA reaches it" in_guest a edu 0x100000000
check "remove it" vmplat vm device remove a more --timeout 250
check "it is locked no more" test "$(locked)" = $((160 * 1024))
check "remove the device" vmplat vm device remove a edu --timeout 250
check "it is gone from the guest" not in_guest a "grep -l 0x11e8 /sys/bus/pci/devices/*/device"
check "no memory is locked for nobody" test "$(locked)" = 0
check "the host can give it away again" look "$edu,owner=ops"

# ---- a VF, while it runs, and back because the host wants it
check "not without a claim" says "no driver has $vf" not vmplat vm device add a pci host="$pf#1"
check "claim it" vmplat claim add "$vf"
check "the guest takes a VF" vmplat vm device add a pci host="$pf#1",id=vf --timeout 250
check "add it again: it is there" says '^vf$' vmplat vm device add a pci host="$pf#1",id=vf
vf_up='until [ -e /sys/bus/pci/drivers/igbvf/0000* ]; do sleep 0.1; done'
check "its igbvf drives it" in_guest a "$vf_up; ls /sys/bus/pci/drivers/igbvf | grep 0000"
check "which the list shows" says "vf *pci *present *up" vmplat vm device list a
check "its vectors are there" in_guest a 'ip link set eth0 up; grep eth0 /proc/interrupts'
# as its kernel would, but without putting back what a reset loses; the PCIe capability is at 0xa0
flr='cd /sys/bus/pci/devices/$(ls /sys/bus/pci/drivers/igbvf | grep 0000); echo ${PWD##*/} >driver/unbind; echo 1 >enable;
	regs() { od -An -tx2 -j4 -N2 config; }; before=$(regs); cat reset_method;
	printf "\\200" | dd of=config bs=1 seek=$((0xa9)) conv=notrunc 2>/dev/null; echo "command $before, then $(regs)"'
check "the guest resets it" says "command *0.*[1-9a-f].*, then *0000" in_guest a "$flr"
check "its igbvf drives it again" in_guest a 'echo 1 >reset && echo ${PWD##*/} >/sys/bus/pci/drivers/igbvf/bind && cat net/*/address'
echo "$vf" >"$pci/$vf/driver/unbind" &
wants=$!
check "the host wants it back" wait $wants
check "the guest has given it up" not says "^vf" vmplat vm device list a
check "and nothing else happened to it" in_guest a "ls /sys/bus/pci/devices | wc -l | grep -x 2"

# ---- MSI-X: a card on the same wire as the host's
check "claim a card" vmplat claim add "$nic"
check "the guest takes it" vmplat vm device add a pci host="$nic",id=nic --timeout 250
wire=$(basename "$pci/$pf"/net/*)
ip addr add 10.9.0.1/24 dev "$wire" && ip link set "$wire" up
card='until d=$(ls -d /sys/bus/pci/drivers/e1000e/0000*/net/*); do sleep 0.1; done 2>/dev/null;
	n=${d##*/}; ip addr add 10.9.0.2/24 dev $n; ip link set $n up'
check "its e1000e drives it" in_guest a "$card"
check "the guest reaches the host through it" in_guest a 'for i in $(seq 30); do ping -q -c 1 -W 5 10.9.0.1 && break; done'
count='grep PCI-MSI.*eth0 /proc/interrupts; grep PCI-MSI.*eth0 /proc/interrupts | awk "{ n += \$2 + \$3 > 0 } END { print n, NR }"'
check "each of its vectors came" says "^3 3$" in_guest a "$count"
check "and goes" vmplat vm device remove a nic --timeout 250

# ---- two of one IOMMU group, which the bridge above them is in
check "they are claimed together" vmplat claim add "${twins[0]}"
check "the guest takes one" vmplat vm device add a pci host="${twins[0]}",id=twin0 --timeout 250
check "nobody else the other" says "is in use" not look "${twins[1]}"
check "but the same guest" vmplat vm device add a pci host="${twins[1]}",id=twin1 --timeout 250
check "it drives one" in_guest a edu
check "the first goes" vmplat vm device remove a twin0 --timeout 250
check "and the other" in_guest a edu
check "which goes, too" vmplat vm device remove a twin1 --timeout 250
check "nothing is locked for them" test "$(locked)" = 0
check "release them" vmplat claim release "${twins[0]}"

# ---- the dead give nothing
check "add the first again" vmplat vm device add a pci host="$edu",owner=ops,id=edu --timeout 250
check "the guest dies" sh -c "echo 'echo c >/proc/sysrq-trigger' >'$tmp/a.in'"
check "of that" wait_for "$tmp/a.out" "end Kernel panic" 250
check "it does not give it up" says "did not give edu up within 1 s.*still there" not vmplat vm device remove a edu --timeout 1
check "so it is still there" says "edu *pci *present" vmplat vm device list a
check "reset" vmplat vm reset a
rebooted() { local end=$((SECONDS + 250)); until [ "$(grep -ca '^READY' "$tmp/a.out")" = 2 ]; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done; }
check "the guest boots again, with it" rebooted
check "and drives it" in_guest a edu
check "the guest dies again" sh -c "echo 'echo c >/proc/sysrq-trigger' >'$tmp/a.in'"
panics() { local end=$((SECONDS + 250)); until [ "$(grep -ca 'end Kernel panic' "$tmp/a.out")" = 2 ]; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done; }
check "of the same" panics
check "only what is the host's goes by force" says "is no device of the host\|there is no device" not vmplat vm device remove a net0 --force
check "by force it goes" vmplat vm device remove a edu --timeout 1 --force
check "it is gone" not says "^edu" vmplat vm device list a
check "stop" vmplat vm stop a

# ---- a runner that is killed keeps nothing
check "a VM that waits" vmplat run --name b --detach --paused --console none --kernel "$VMPLAT_GUEST_KERNEL" \
	--memory 96M --device "$edu,owner=ops"
check "it has it" says "is open in process" not look "$edu,owner=ops"
pid=$(vmplat vm show b --json | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
check "kill -9" kill -9 "$pid"
free() { local end=$((SECONDS + 250)); until look "$edu,owner=ops"; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done; }
check "it can be had again" free
check "and given back" vmplat claim release --owner ops "$edu"
check "to nobody, as before" test -z "$(driver "$edu")"
done_testing
