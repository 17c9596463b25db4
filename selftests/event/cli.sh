#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# vmplat events: what it prints, where it begins, what it runs.
count=0 failed=0
ok() {		# ok STATUS WHAT [WHY]
	count=$((count + 1))
	if [ "$1" = 0 ]; then echo "ok $count $2"; return; fi
	echo "not ok $count $2"
	failed=1
	[ -z "$3" ] || sed 's/^/# /' <<<"$3"
}
is() { [ "$1" = "$2" ]; ok $? "$3" "got '$1', want '$2'"; }
has() { grep -qE -- "$2" <<<"$1"; ok $? "$3" "$1"; }
# the first value of that name in a line of JSON; without python, which is slow to start in an emulated host
get() { grep -oE "\"$1\":\"?[^\",}]*" | head -1 | sed -E 's/^[^:]*:"?//'; }
newest() { vmplat events --state --json --class cpu | head -1 | get seq; }
veth() { ip link add "$1" type veth peer name "$1p" && ip link del "$1"; }

work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT

# ---- state
out=$(vmplat events --state --class cpu)
is "$(wc -l <<<"$out")" "$(nproc)" "--state: each CPU"
has "$out" '^cpu +0 number=0 online' "as text"
out=$(vmplat events --state --json --class net | head -1)
is "$(get kind <<<"$out")" present "--state --json"
is "$(get name <<<"$out")" lo "with the object in it"
has "$(vmplat events --state --class pci)" 'vendor=0x1af4 .*driver=virtio-pci' "PCI numbers as people write them"

# ---- since
at=$(newest)
veth cli0
out=$(vmplat events --since "$at" --class net --count 2 --json)
is "$(head -1 <<<"$out" | get name)" cli0p "--since: what was missed"
is "$(head -1 <<<"$out" | get action)" add "in order"
has "$(vmplat events --since "$at" --class net --count 1)" \
	'^[0-9:.]+ net +add +[0-9]+ ifindex=[0-9]+ name=cli0p .* by ip\([0-9]+\)$' "as text, with a time and a cause"
vmplat events --since 99999999 2>"$work/err"
is "$?" 1 "--since: a number that was not yet"
has "$(cat "$work/err")" 'the latest event is [0-9]+' "says which was"

# ---- follow and resume
vmplat events --class net --json --resume "$work/pos" --count 1 >"$work/out" &
pid=$!
for ((i = 0; i < 300; i++)); do [ -s "$work/pos" ] && break; sleep 0.1; done
grep -q '"kind":"sync"' "$work/out"
ok $? "--resume at first: all objects" "$(cat "$work/out")"
veth cli1
wait $pid
is "$(tail -1 "$work/out" | get name)" cli1p "then events, as they happen"
out=$(vmplat events --class net --json --resume "$work/pos" --count 1)
is "$(head -1 <<<"$out" | get kind)" changed "--resume: on from there"
is "$(head -1 <<<"$out" | get seq)" $(($(tail -1 "$work/out" | get seq) + 1)) "with the next one"
sed -i 's/^./0/; s/^.../123/' "$work/pos"
out=$(timeout 20 vmplat events --class net --json --resume "$work/pos" | head -1)
is "$(get kind <<<"$out")" reset "--resume: a position of another life of the module"
echo nonsense >"$work/pos"
vmplat events --resume "$work/pos" 2>"$work/err"
is "$?" 1 "--resume: a file with something else in it"

# ---- exec: the name of a VM is what somebody likes it to be
cat >"$work/hook" <<-'END'
	#!/bin/sh
	{ echo "$# $1 $2"; env | grep ^VMPLAT_ | sort; } >>"${0%/*}/hooked"
END
chmod +x "$work/hook"
at=$(newest)
python3 - <<-'END'
	import os, socket, struct
	# vm-set by hand: no library of ours in it
	def attr(kind, data):
	    return struct.pack("HH", len(data) + 4, kind) + data + b"\0" * (-len(data) % 4)
	def send(s, family, cmd, data):
	    body = struct.pack("BBH", cmd, 1, 0) + data
	    s.send(struct.pack("IHHII", len(body) + 16, family, 1, 1, 0) + body)
	    return s.recv(65536)
	s = socket.socket(16, socket.SOCK_RAW, 16)
	s.bind((0, 0))
	answer, family, at = send(s, 16, 3, attr(2, b"vmplat\0")), None, 20
	while at < len(answer):
	    length, kind = struct.unpack_from("HH", answer, at)
	    if kind == 1:
	        family = struct.unpack_from("H", answer, at + 4)[0]
	    at += (length + 3) & ~3
	fd = os.open("/dev/vmplat", os.O_RDWR)
	vm = attr(2, b"$(touch /tmp/pwned);\"'`id`\n\0") + attr(3, struct.pack("I", 2))
	send(s, family, 6, attr(28 | 0x8000, vm) + attr(19, struct.pack("i", fd)))
END
vmplat events --since "$at" --class vm --count 2 --exec "$work/hook"
is "$?" 0 "--exec"
out=$(cat "$work/hooked")
has "$out" '^3 vm add$' "runs the hook with the event as arguments"
has "$out" '^VMPLAT_VM_STATE=running$' "and in its environment"
has "$out" '^VMPLAT_EVENT_ACTION=remove$' "for each event"
grep -qF 'VMPLAT_VM_NAME=$(touch /tmp/pwned);"'"'"'`id`' <<<"$out"
ok $? "the name arrives as it is" "$out"
[ ! -e /tmp/pwned ]
ok $? "and nobody runs it"
has "$(vmplat events --since "$at" --class vm --count 1)" 'name=\$\(touch /tmp/pwned\);"'"'"'`id`\? ' "a terminal gets nothing to act on"
vmplat events --since "$at" --class vm --count 1 --exec /nonexistent 2>"$work/err"
has "$(cat "$work/err")" 'cannot run /nonexistent' "a hook that is not there is said"

# ---- mistakes
for args in "--class nonsense" "--since x" "--state --since 1" "--exec a --json" "extra" "--nonsense"; do
	# shellcheck disable=SC2086 # words
	vmplat events $args >/dev/null 2>&1
	is "$?" 2 "vmplat events $args"
done

# ---- somebody who may not open the device
mkdir "$work/bin" "$work/lib"
cp "$(command -v vmplat)" "$work/bin" && cp "$VMPLAT_SRC"/build/user/lib/libvmplat.so.0 "$work/lib" && chmod -R a+rX "$work"
nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups env LD_LIBRARY_PATH="$work/lib" "$work/bin/vmplat" "$@"; }
out=$(nobody events --state --json | grep -c '"class":"cpu"')
is "$out" "$(nproc)" "nobody sees the hardware"
nobody events --state --class vm 2>"$work/err"
is "$?" 1 "and not the VMs"
has "$(cat "$work/err")" 'device-fd or CAP_NET_ADMIN' "with a reason"

# ---- the module goes and comes
vmplat events --class cpu --json >"$work/out" &
pid=$!
# it waits, in poll(2) or ppoll(2), once it listens
listens() { read -r nr _ <"/proc/$pid/syscall" && { [ "$nr" = 7 ] || [ "$nr" = 271 ]; }; }
for ((i = 0; i < 600; i++)); do listens && break; sleep 0.1; done
if rmmod vmplat 2>"$work/err"; then
	for ((i = 0; i < 300; i++)); do grep -q down "$work/out" && break; sleep 0.1; done
	ok $((i == 300)) "the module is unloaded: down" "$(cat "$work/out")"
	insmod "$VMPLAT_SRC/build/kmod/$(uname -r)/vmplat.ko"
	ok $? "it is loaded again"
	chgrp kvm /dev/vmplat && chmod 660 /dev/vmplat	# as it was, for the tests that follow
	for ((i = 0; i < 300; i++)); do grep -q sync "$work/out" && break; sleep 0.1; done
	ok $((i == 300)) "the reader begins anew: reset, all objects, sync" "$(cat "$work/out")"
else
	count=$((count + 1))
	echo "ok $count # SKIP the module is in use: $(cat "$work/err")"
fi
kill $pid
echo "1..$count"
exit $failed
