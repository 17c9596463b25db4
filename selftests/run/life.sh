#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The life of a guest with two CPUs and a disk: boots, is paused, snapshotted while it works, killed, restored,
# snapshotted again as an increment on what it came from, reset, powered off. "vmplat events" must tell exactly that.
# Runs in the test host.
. "$(dirname "$0")/../tap.sh"
ticks() { grep -c '^TICK' "$1" 2>/dev/null || true; }
last() { grep '^TICK' "$1" | tail -1 | cut -d' ' -f2; }
moves() {	# the guest of console $1 goes on: three more ticks
	local want=$(($(ticks "$1") + 3)) end=$((SECONDS + 60))
	until [ "$(ticks "$1")" -ge $want ]; do
		[ $SECONDS -lt $end ] || { tail -3 "$1"; return 1; }
		sleep 0.2
	done
}
stands() { local a; a=$(ticks "$1"); sleep 3; [ "$(ticks "$1")" = "$a" ]; }

export VMPLAT_RUN_DIR=$tmp/vms VMPLAT_STORE=$tmp/store VMPLAT_VM_DIR=$tmp/disks
clean_up() { for v in a b; do vmplat vm stop $v 2>/dev/null; done; kill $(jobs -p) 2>/dev/null; }

# what is told of VMs, from before the first
vmplat events --class vm --json --resume "$tmp/position" >>"$tmp/events" &
check "somebody listens to events" wait_for "$tmp/position" . 60
# all that is told of VM $1: states, and "gone" behind the last one
told() { sed -nE 's/.*"gone":(false|true).*"name":"'"$1"'","state":"([a-z]+)".*/\1 \2/p' "$tmp/events" |
	sed 's/^false //; s/^true .*/gone/' | tr '\n' ' '; }
tells() {	# VM STATES: waits for the last of them, then it must be exactly these
	local end=$((SECONDS + 60))
	until [ "$(told "$1" | wc -w)" -ge "$(wc -w <<<"$2")" ]; do [ $SECONDS -lt $end ] || break; sleep 0.2; done
	[ "$(told "$1")" = "$2 " ] || { told "$1"; return 1; }
}
echo >"$tmp/disk.raw"	# the guest reads the first line: without one it reads all of the disk, byte by byte
truncate -s 16M "$tmp/disk.raw"

# Each tick checks a file in memory, writes its number to the disk and reads it back from there.
script='dd if=/dev/urandom of=/tmp/f bs=1M count=8 2>/dev/null; md5sum /tmp/f >/tmp/sum; nproc; n=0;
while true; do read c </dev/vda; [ $n = 0 ] || [ x$c = x$n ] || echo DISK-BAD $n $c; md5sum -cs /tmp/sum || echo MEM-BAD;
n=$((n+1)); echo $n | dd of=/dev/vda conv=notrunc,sync bs=4096 2>/dev/null; sync; echo 3 >/proc/sys/vm/drop_caches;
echo TICK $n $(cut -d. -f1 /proc/uptime); [ -e /tmp/end ] && poweroff -f; sleep 0.2; done'
script=${script//$'\n'/ }

check "no kernel" says "which kernel" vmplat run
check "what is no kernel" says "neither a bzImage nor an ELF" vmplat run --kernel /etc/passwd
check "too little memory" says "must be 32 MiB" vmplat run --kernel "$VMPLAT_GUEST_KERNEL" --memory 1M
check "no such disk" says "$tmp/nodisk" vmplat run --kernel "$VMPLAT_GUEST_KERNEL" --disk "$tmp/nodisk"

check "starts in the background" vmplat run --name a --detach --console "$tmp/a" --kernel "$VMPLAT_GUEST_KERNEL" \
	--initrd "$VMPLAT_GUEST_INITRD" --memory 192M --cpus 2 --disk "$tmp/disk.raw" \
	--cmdline "console=ttyS0 quiet script=\"$script\""
check "its name is taken" says "running already" vmplat run --name a --kernel "$VMPLAT_GUEST_KERNEL"
check "events: it starts" tells a "starting running"
mem=$(grep -o '"mem":\[[0-9]*\]' "$tmp/events" | tail -1)
check "with its memory" says "^{.*\"id\":${mem//[!0-9]/},.*\"mem\":{\"bytes\":$((192 << 20))," vmplat events --state --class mem --json
check "and its owner" says '"owner":0,"vm":{"name":"a"' vmplat events --state --class vm --json
check "boots and works" wait_for "$tmp/a" '^TICK 2 ' 280
check "sees both CPUs" grep -q '^2' "$tmp/a"
check "list" says running vmplat vm list
check "show" says '"cpus": 2' vmplat vm show a --json
check "the socket is private" test "$(stat -c %a "$tmp/vms/a.sock")" = 600

check "pause" vmplat vm pause a
check "is paused" says paused vmplat vm list
check "pause twice" says "it is paused" vmplat vm pause a
check "stands still" stands "$tmp/a"
check "what its CPUs do" says '^vCPU 1 .* in [a-z]* mode, interrupts' vmplat vm cpus a
at_rest() { vmplat vm cpus a | grep -v timer; }
check "nothing, while it is paused" test "$(at_rest)" = "$(at_rest)"
check "resume" vmplat vm resume a
check "what they do while it works" says '"in_service"' vmplat vm cpus a --json
check "goes on" moves "$tmp/a"
check "events: paused and resumed" tells a "starting running paused running"

check "increment on nothing" not vmplat vm snapshot --base nosuch a s0
check "full snapshot while it works" vmplat vm snapshot a s1
sed 's/^/# /' "$out"
check "goes on after it" moves "$tmp/a"
check "increment" vmplat vm snapshot --base s1 a s2
sed 's/^/# /' "$out"
check "increment on an older one" not vmplat vm snapshot --base s1 a s3
at=$(last "$tmp/a")
check "goes on after that" moves "$tmp/a"
check "verify" vmplat snap verify s2

pid=$(vmplat vm show a --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
# a snapshot that is neither stored nor given up: whoever asked for it waits
"$(dirname "$0")/snapshot.py" "$tmp/vms/a.sock" begun >"$tmp/begun" &
check "a snapshot begins" wait_for "$tmp/begun" begun 60
kill -9 "$pid"
dies() { local end=$((SECONDS + 60)); until vmplat vm list | grep "^a *failed"; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done; }
check "a killed one has failed" dies
check "why" says "the runner (pid $pid) died while running, the snapshot 'begun' was not committed" vmplat vm list
check "what it went through" says '"state": "snapshotting"' vmplat vm show a --json
check "what to do" says "cannot resume: VM 'a' has failed: .*\`vmplat restore s2 --name a\` goes on from its latest snapshot" \
	not vmplat vm resume a
check "no snapshot of it either" says "VM 'a' has failed" not vmplat vm snapshot a s9
check "events: snapshots, one refused, and lost while it ran" tells a \
	"starting running paused running snapshotting running snapshotting running snapshotting running snapshotting running gone"
check "in its last state" says '"gone":true.*"state":"running"' tail -1 "$tmp/events"
check "restore refuses what is no list of CPUs" says "is no list" \
	not vmplat restore s2 --name b2 --cpu-affinity 1- --console none
check "restore" timeout 280 vmplat restore s2 --detach --console "$tmp/b" --name b --cpu-affinity 1:0
allowed() { local t; for t in /proc/$(vmplat vm show b --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')/task/*; do
	grep -qx "$1" "$t/comm" && grep Cpus_allowed_list "$t/status"; done; }
check "vCPU 0 may run on CPU 1 alone" says "list:.1$" allowed vcpu/0
check "vCPU 1 on CPU 0" says "list:.0$" allowed vcpu/1
check "works again" wait_for "$tmp/b" '^TICK' 60
first=$(grep '^TICK' "$tmp/b" | head -1 | cut -d' ' -f2)
echo "# snapshot at tick $at, restored at $first"
check "where it was" test "$first" -le $((at + 2)) -a "$first" -gt 2
check "and goes on" moves "$tmp/b"
check "disk refused for a second one" says "there already" vmplat restore s2 --name b2 --disk "$tmp/disk.raw" --console none
check "increment on what it came from" vmplat vm snapshot --base s2 b s4
sed 's/^/# /' "$out"
check "goes on after it all" moves "$tmp/b"
check "neither memory nor disk was ever wrong" not grep -E 'BAD' "$tmp/a" "$tmp/b"

before=$(wc -c <"$tmp/b")
check "reset" vmplat vm reset b
rebooted() { tail -c +"$before" "$tmp/b" | grep -q '^TICK 1 '; }
check_reset() { local end=$((SECONDS + 280)); until rebooted; do [ $SECONDS -lt $end ] || return 1; sleep 0.5; done; }
check "boots again" check_reset
check "stop" vmplat vm stop b
check "it has stopped, and why" says "b: stopped: .vmplat vm stop." vmplat vm list
check "start" vmplat vm start b --paused
check "is a new life" says "^b *paused" vmplat vm list
check "start twice" says "cannot start: it is paused" not vmplat vm start b
check "a live one is not forgotten" says "cannot forget: it is paused; stop it first" not vmplat vm forget b
check "stop it again" vmplat vm stop b
check "forget both" eval 'vmplat vm forget a && vmplat vm forget b'
check "nothing is left" test -z "$(vmplat vm list | tail -n +2)"
check "events: restored, a snapshot, a reset that is no other state, stopped, started" \
	tells b "restoring running snapshotting running stopping stopped gone starting paused stopping stopped gone"

: >"$tmp/events"
check "powers itself off" timeout 280 vmplat run --name a --console "$tmp/c" --kernel "$VMPLAT_GUEST_KERNEL" \
	--initrd "$VMPLAT_GUEST_INITRD" --memory 128M --cmdline 'quiet script="poweroff -f"' </dev/null
check "events: and that it does so" tells a "starting running stopping stopped gone"
# the module's events are in the initial network namespace only
check "a guest's reboot ends it when asked, and it runs where it cannot report" says "events do not tell what this VM does" \
	timeout 280 unshare --net vmplat run --no-reboot --name a --console "$tmp/c" \
	--kernel "$VMPLAT_GUEST_KERNEL" --initrd "$VMPLAT_GUEST_INITRD" --memory 128M --cmdline 'quiet script="true"' </dev/null
check "having booted" grep -q 'reboot: Restarting system' "$tmp/c"
check "memfd has no snapshots" says "memfd" sh -c 'vmplat run --name a --detach --console none --memory-backend memfd \
	--kernel "$VMPLAT_GUEST_KERNEL" --memory 64M; vmplat vm snapshot a s9'

# a user who may only open /dev/kvm and /dev/vmplat
mkdir "$tmp/bin" "$tmp/lib"
cp "$(command -v vmplat)" "$tmp/bin"
cp "$VMPLAT_SRC/build/user/lib/libvmplat.so.0" "$tmp/lib"
chmod 711 "$tmp"
install -d -o nobody "$tmp/of-nobody"
check "what is no kernel, by nobody of group kvm" says "neither a bzImage nor an ELF" env VMPLAT_RUN_DIR="$tmp/of-nobody" \
	LD_LIBRARY_PATH="$tmp/lib" setpriv --reuid nobody --regid kvm --clear-groups \
	"$tmp/bin/vmplat" run --name bad --kernel /etc/passwd
check "events: it failed" tells bad "starting failed gone"
check "why, and whose it was" says '"owner":65534,"vm":{"name":"bad","state":"failed".*"reason":"[^"]*neither a bzImage nor an ELF' \
	tail -1 "$tmp/events"
check "events: nothing else" test -z "$(grep -v '"name":"\(a\|bad\)"' "$tmp/events")"
done_testing
