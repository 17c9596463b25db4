#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# A VM that QEMU runs, on memory of the module: logged, frozen while it runs, in snapshots full and incremental, restored on
# demand; its life in events; nothing of it left after a kill -9. The guest is 1 KiB in place of riscv64's firmware, emulated:
# that comes up at once where the host is emulated itself. Runs in the test host.
. "$(dirname "$0")/../tap.sh"

guests=$(cd "$(dirname "$0")/../.." && pwd)/build/selftests/foreign
export VMPLAT_RUN_DIR=$tmp/vms VMPLAT_STORE=$tmp/store
clean_up() { local v; for v in a b c d; do vmplat vm stop "$v" 2>/dev/null; done; }

rounds() { tr -d '\r' <"$1" | sed -n 's/^round \([0-9]*\)$/\1/p' | tail -n 1; }
past_round() {	# FILE ROUND
	local i
	for i in $(seq 1200); do [ "$(rounds "$1")" -ge "$2" ] 2>/dev/null && return; sleep 0.1; done
	tail -3 "$1"
	return 1
}
# keys go in by a pipe: the console of a VM in the background takes none
begin() {	# NAME COMMAND...: its input is descriptor 8 (a) or 9 (others)
	local name=$1 fd=9
	shift
	[ "$name" = a ] && fd=8
	mkfifo "$tmp/keys.$name"
	eval "exec $fd<>'$tmp/keys.$name'"
	"$@" --name "$name" <"$tmp/keys.$name" >"$tmp/$name" 2>"$tmp/err.$name" &
	pid=$!
}
state_is() { local i; for i in $(seq 300); do vmplat vm show "$1" 2>/dev/null | grep -q "^state *$2$" && return; sleep 0.1; done; vmplat vm show "$1"; false; }

vmplat events --class vm --json >"$tmp/events" 2>/dev/null &
follower=$!
begin a vmplat run --firmware "$guests/bare.riscv64" --arch riscv64 --memory 64M
first=$pid
check "the guest runs" past_round "$tmp/a" 3
check "emulated, and says so" says "^engine *qemu/tcg riscv64$" vmplat vm show a
check "what it boots" says "a *running.*bare.riscv64" vmplat vm list
check "its memory has a log" says "^base *-$" vmplat vm show a
dirty() { local n; n=$(vmplat vm show a --json | grep -o '"dirty_pages": *[0-9]*' | grep -o '[0-9]*$'); echo "$n pages"; [ "$n" -ge 32 ] && [ "$n" -lt 2000 ]; }
check "what it writes is in the log" dirty

check "pause" vmplat vm pause a
at=$(rounds "$tmp/a")
sleep 1
check "it stands still" test "$(rounds "$tmp/a")" = "$at"
check "resume" vmplat vm resume a
check "it goes on" past_round "$tmp/a" $((at + 2))

check "a snapshot" says "full snapshot of 'a'" vmplat vm snapshot a one
at=$(rounds "$tmp/a")
check "it runs on" past_round "$tmp/a" $((at + 2))
check "an increment" says "incremental snapshot of 'a'" vmplat vm snapshot a two --incremental
at=$(rounds "$tmp/a")
check "runs on" past_round "$tmp/a" $((at + 2))
check "both are whole" vmplat snap verify two
vmplat snap list | sed 's/^/# /'

check "nothing can be plugged" says "devices cannot be plugged" not vmplat vm device add a memory size=128M

# ---- SeaBIOS, and a disk that is written: the second sector counts the starts
cp "$guests/sector.x86" "$tmp/disk"
truncate -s 1M "$tmp/disk"
begin c vmplat run --firmware seabios --accel tcg --memory 64M --disk "$tmp/disk"
third=$pid
check "a disk starts by SeaBIOS" wait_for "$tmp/c" "SECTOR started 1 times"
check "a snapshot with the disk" says "full snapshot of 'c'" vmplat vm snapshot c disk
echo -n r >&9
check "started again" wait_for "$tmp/c" "SECTOR started 2 times"
check "an increment with the disk" says "incremental snapshot of 'c'" vmplat vm snapshot c disk2 --incremental
echo -n r >&9
check "and again" wait_for "$tmp/c" "SECTOR started 3 times"
echo -n x >&9
check "it ends by itself" wait "$third"
starts() { od -An -tu1 -j512 -N1 "$1" | tr -d ' '; }
check "its disk has counted" says "^3$" starts "$tmp/disk"
begin d vmplat restore disk2 --disk "$tmp/disk.d"
check "it goes on from there" state_is d running
check "the copy is what the disk was" says "^2$" starts "$tmp/disk.d"
echo -n r >&9
check "what goes on has that disk" wait_for "$tmp/d" "SECTOR started 3 times"
check "stop" vmplat vm stop d

# ---- a kill -9, and its memory is free again
child=$(cat "/proc/$first/task/$first/children")
kill -9 "$first"
wait "$first" 2>/dev/null
gone() { local i; for i in $(seq 300); do [ -d "/proc/$1" ] || return 0; sleep 0.1; done; cat "/proc/$1/status"; return 1; }
check "QEMU is gone with it" gone "${child% }"
check "so is its memory" not grep . <(vmplat events --state --class mem --json)

# ---- restored
begin b vmplat restore two
check "the snapshot goes on" past_round "$tmp/b" $((at + 1))
check "it is not begun anew" not grep -qx $'round [1-3]\r*' "$tmp/b"
check "as what it was" says "^engine *qemu/tcg riscv64$" vmplat vm show b
check "an increment on what was restored" says "incremental snapshot of 'b'" vmplat vm snapshot b four --incremental
check "reset" vmplat vm reset b
check "begins anew" wait_for "$tmp/b" $'^round 1\r*$'
check "goes on" past_round "$tmp/b" 2
echo >&9
check "it ends by itself" wait "$pid"
check "every page was whole" grep -q "every page whole" "$tmp/b"

# ---- what the kernel has told
for state in starting running paused snapshotting restoring stopped; do
	check "an event: $state" wait_for "$tmp/events" "\"$state\""
done
kill "$follower"
wait "$follower" 2>/dev/null
done_testing
