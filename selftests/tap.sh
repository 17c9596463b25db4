# SPDX-License-Identifier: GPL-2.0-only
# What tests in shell share; to be sourced. Sets tmp, a directory that goes with the test, and out in it. A test ends
# with "done_testing"; what it puts into the function clean_up is run before tmp goes.
n=0 bad=0
tmp=$(mktemp -d)
out=$tmp/out
clean_up() { :; }
# A guest that was lost is the reason for whatever failed after it: what its runner said of it goes with the failure.
lost_guests() { [ $bad = 0 ] || grep -rahs '^vmplat: .*vCPU [0-9]* shuts down (triple fault)' "$tmp" | sed 's/^/# /'; }
# What runs still when a test has failed may be why: what its CPUs do goes with it, too.
stuck_guests() {
	[ $bad = 0 ] && return
	"$(dirname "${BASH_SOURCE[0]}")/run/stuck" 2>"$out"
	sed -n '$s/^/# stuck: /p' "$out"
}
trap 'stuck_guests; clean_up; lost_guests; rm -rf "$tmp"' EXIT

check() {	# NAME COMMAND...: what COMMAND says is shown when it fails
	local name=$1
	shift
	n=$((n + 1))
	if "$@" >"$out" 2>&1; then echo "ok $n $name"; else
		echo "not ok $n $name"
		sed 's/^/# /' "$out"
		bad=1
	fi
}
not() { ! "$@"; }
status() { local want=$1; shift; "$@"; [ $? = "$want" ]; }
# says TEXT COMMAND...: what COMMAND prints has a line with TEXT in it, whatever its status
says() { local text=$1; shift; "$@" >"$out.say" 2>&1; cat "$out.say"; grep -q -- "$text" "$out.say"; }
# wait_for FILE PATTERN [SECONDS]: until FILE, a console, has a line that matches
wait_for() {
	local end=$((SECONDS + ${3:-120}))
	until grep -qa -- "$2" "$1" 2>/dev/null; do
		[ $SECONDS -lt $end ] || { tail -5 "$1"; return 1; }
		sleep 0.1
	done
}
done_testing() { echo "1..$n"; exit $bad; }
