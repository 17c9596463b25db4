# SPDX-License-Identifier: GPL-2.0-only
# What tests share that talk to a guest through its console; to be sourced behind tap.sh. The guest's initrd has a
# script that reads lines and evaluates them.

# start VM COMMAND...: its console at $tmp/VM.in, which the test opens for writing, and $tmp/VM.out
start() {
	local vm=$1
	shift
	mkfifo "$tmp/$vm.in"
	"$@" <"$tmp/$vm.in" >"$tmp/$vm.out" 2>"$tmp/$vm.err" &
}

# Runs COMMAND in guest VM, prints what it says, returns its status. One that did not answer once is not asked again: time
# is left for looking at it.
in_guest() {
	local vm=$1 status seq=${EPOCHREALTIME//[.,]/}
	shift
	[ ! -e "$tmp/$vm.silent" ] || { echo "it did not answer before"; return 1; }
	printf '%s\n' "echo BEGIN-$seq; { ${*//$'\n'/ }; } 2>&1; echo END-$seq \$?" >"$tmp/$vm.in"
	wait_for "$tmp/$vm.out" "^END-$seq [0-9]" 240 || { : >"$tmp/$vm.silent"; return 1; }
	tr -d '\r' <"$tmp/$vm.out" | sed -n "/^BEGIN-$seq/,/^END-$seq/p" | grep -v "^BEGIN-\|^END-"
	status=$(tr -d '\r' <"$tmp/$vm.out" | sed -n "s/^END-$seq //p")
	return "$status"
}
