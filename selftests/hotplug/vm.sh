#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# A tap is handed to a running VM by policy: while the VM is not there, once it is, by a follower; and taken back.
# Runs in the test host.
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$(dirname "$0")/../tap.sh"
export VMPLAT_RUN_DIR=$tmp/vms
follower=
clean_up() { [ -n "$follower" ] && kill "$follower"; vmplat vm stop a 2>/dev/null; wait; }
hotplug() { local verb=$1; shift; vmplat hotplug "$verb" "$@"; }
has() { vmplat vm device list a | grep -q "^$1 .*present *up"; }
becomes() { local i; for ((i = 0; i < 1200; i++)); do "$@" && return; sleep 0.1; done; return 1; }

if [ -x /run/modprobe ]; then /run/modprobe -q tun; else modprobe -q tun; fi
[ -e /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; }
ip tuntap add hp0 mode tap
ip link add hpd type dummy
printf 'echo READY\nwhile :; do sleep 1000; done\n' >"$tmp/script"
"$top/selftests/host/guest-initrd" "$tmp/initrd" --kernel "${VMPLAT_KERNEL/debug/6.12}" --script "$tmp/script" || exit 1
echo 'net name=hp* => vm a' >"$tmp/policy"

check "no VM yet" says "there is no VM called 'a'" hotplug plan -p "$tmp/policy"
check "what is no tap" says "hpd .*it is no tap" hotplug plan -p "$tmp/policy"
check "nothing is done then" says "Nothing to change" hotplug apply -p "$tmp/policy" -J "$tmp/journal"
vmplat run --name a --kernel "$VMPLAT_GUEST_KERNEL" --initrd "$tmp/initrd" --memory 160M --cmdline "console=ttyS0 quiet" \
	</dev/null >"$tmp/console" 2>&1 &
check "a guest boots" wait_for "$tmp/console" '^READY' 250
check "it would be plugged in" says "vmplat vm device add a net tap=hp0,id=tap-hp0" hotplug plan -p "$tmp/policy"
check "it is" hotplug apply -p "$tmp/policy" -J "$tmp/journal"
check "the guest has it" has tap-hp0
check "once is enough" says "Nothing to change" hotplug apply -p "$tmp/policy" -J "$tmp/journal"
check "undone" hotplug undo -J "$tmp/journal"
check "the guest has it no more" not has tap-hp0
vmplat hotplug apply -p "$tmp/policy" -J "$tmp/journal" --follow >"$tmp/follower" 2>&1 &
follower=$!
check "a follower plugs what is there" becomes has tap-hp0
ip tuntap add hp1 mode tap
check "and what comes" becomes has tap-hp1
kill -KILL "$follower"
wait "$follower" 2>/dev/null
follower=
check "its changes are undone after a kill" hotplug undo --all -J "$tmp/journal"
check "the guest has none" not has tap-hp
vmplat vm stop a
check "the journal tells it all" says "6  *[0-9]* .*hp0 .*in VM a as tap-hp0 .*in no VM .*done .*undoes 3" hotplug log -J "$tmp/journal"
done_testing
