#!/bin/bash
# An unmodified QEMU runs a stock Debian guest under KVM on a file of vmplatfs. Its memory is logged and frozen while
# the guest runs; the guest does not notice; the image, with QEMU's own device state, continues as a second guest.

here=$(cd "$(dirname "$0")" && pwd)
programs=$here/../../build/selftests/qemu
dir=$(mktemp -d) mnt=/run/vmplat
mib=32 ram=256M
n=0 failed=0 pids=()

diag() { sed 's/^/# /'; }
check() {	# check STATUS DESCRIPTION
	n=$((n + 1))
	if [ "$1" = 0 ]; then echo "ok $n $2"; else echo "not ok $n $2"; failed=1; fi
}
bail() { echo "Bail out! $*"; tail -n 30 "$dir"/console.* "$dir"/qemu.* 2>/dev/null | diag; exit 1; }
# the checks of another program become checks of this one
adopt() {
	while IFS= read -r line; do
		case $line in
		"ok "*) line=${line#ok }; check 0 "${line#* }" ;;
		"not ok "*) line=${line#not ok }; check 1 "${line#* }" ;;
		1..*) ;;
		*) echo "$line" ;;
		esac
	done
}
cleanup() {
	[ ${#pids[@]} -gt 0 ] && kill -KILL "${pids[@]}" 2>/dev/null
	wait
	umount "$mnt" 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT

# wait_for SECONDS COMMAND...: until COMMAND holds
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@" 2>/dev/null; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}
# tell the guest's program to end, and see it do so; a QEMU that is gone reads no keys, and must not be waited for
finish() {
	timeout 30 sh -c 'echo >"$1"' sh "$dir/keys.$1" || { post_mortem "$1" "$2"; return 1; }
	wait_for 120 grep -q 'load: done' "$dir/console.$1" || post_mortem "$1" "$2"
	grep 'load: [^r]' "$dir/console.$1" | tr -d '\r' | diag
	grep -q 'every page whole' "$dir/console.$1"
}
last_words() { tail -n 30 "$dir/console.$1" "$dir/qemu.$1" 2>/dev/null | tr -d '\r' | diag; }
# With -no-reboot QEMU ends when its guest shuts down or is reset. This guest does neither of its own will before it is
# done, and a kernel that gives up says so.
lost() {
	! alive "$2" && ! grep -q 'load: done\|panic' "$dir/console.$1" &&
		echo "# lost guest: QEMU $1 ended by itself, at round $(rounds "$dir/console.$1")"
}
# where a guest that does not go on is: its CPU twice, its interrupt controllers, the threads of its QEMU
post_mortem() {
	local q t
	last_words "$1"
	lost "$1" "$2" && return
	for q in 'info status' 'info registers' 'info lapic' 'info pic' 'info registers'; do
		printf '{"execute":"qmp_capabilities"}\n{"execute":"human-monitor-command","arguments":{"command-line":"%s"}}\n' "$q" |
			timeout 20 socat -t 10 - "UNIX-CONNECT:$dir/qmp.$1" | tail -n 1 | sed 's/\\r\\n/\n/g' | diag
	done
	for t in /proc/"$2"/task/*; do
		echo "# ${t##*/} $(cat "$t/comm") $(cut -d' ' -f3,14,15 "$t/stat") $(cat "$t/wchan")"
	done
}
rounds() { tr -d '\r' <"$1" | sed -n 's/^load: round \([0-9]*\)$/\1/p' | tail -n 1; }
past_round() { [ "$(rounds "$1")" -ge "$2" ]; }

# qemu NAME MEMORY-OPTIONS [OPTION]...: sets $last to its process
qemu() {
	local name=$1 memory=$2
	shift 2
	mkfifo "$dir/keys.$name"
	qemu-system-x86_64 -no-user-config -nodefaults -display none -no-reboot -accel kvm -cpu host -m "$ram" \
		-object "memory-backend-file,id=m,size=$ram,$memory" -machine q35,memory-backend=m \
		-kernel "$VMPLAT_GUEST_KERNEL" -initrd "$dir/initrd" \
		-append "console=ttyS0 quiet panic=-1 transparent_hugepage=never -- load $mib" \
		-chardev "file,id=c,path=$dir/console.$name,input-path=$dir/keys.$name" -serial chardev:c \
		-qmp "unix:$dir/qmp.$name,server=on,wait=off" "$@" 9<>"$dir/keys.$name" >"$dir/qemu.$name" 2>&1 &
	last=$!
	pids+=("$last")
}

alive() { kill -0 "$1" 2>/dev/null; }
# goes_on NAME PID ROUND: the guest gets as far as that within two minutes
goes_on() {
	local end=$((SECONDS + 120))
	until past_round "$dir/console.$1" "$3" 2>/dev/null; do
		[ $SECONDS -lt $end ] && alive "$2" || { post_mortem "$1" "$2"; return 1; }
		sleep 0.2
	done
}
# three_times COMMAND: where the CPU is emulated, a nested guest is lost now and then (see selftests/check), mostly while
# it boots. That an image is right does not hang on this: it is compared byte for byte, and a wrong one would fail three
# times.
three_times() {
	local i
	for i in 1 2 3; do
		"$1" && return
		echo "# $1: attempt $i failed"
		alive "$last" && kill -KILL "$last"
		wait "$last" 2>/dev/null
		rm -f "$dir"/{keys,qmp,console}."${1#*_}"
	done
	return 1
}

# The initrd of guests of the test host, and our program beside it.
make_initrd() {
	local add=$dir/add lib
	mkdir -p "$add/bin"
	cp "$programs/load" "$add/bin/load"
	ldd "$programs/load" | grep -o '/[^ ]*' | while read -r lib; do
		mkdir -p "$add/${lib%/*}" && cp -L "$lib" "$add/$lib"
	done
	{ cat "$VMPLAT_GUEST_INITRD"; (cd "$add" && find . | cpio -o -H newc --quiet); } >"$dir/initrd"
}

qmp_open() {
	wait_for 30 test -S "$dir/qmp.$1" || bail "QEMU $1 has no monitor"
	coproc QMP { exec socat - "UNIX-CONNECT:$dir/qmp.$1"; }
	qmp qmp_capabilities || bail "the monitor of QEMU $1"
}
qmp_close() { eval "exec ${QMP[1]}>&-"; wait "$QMP_PID" 2>/dev/null; }
# qmp COMMAND [ARGUMENTS]: the answer is left in $answer; events are passed over
qmp() {
	printf '{"execute":"%s"%s}\n' "$1" "${2:+,\"arguments\":$2}" >&"${QMP[1]}"
	while IFS= read -r -t 60 answer <&"${QMP[0]}"; do
		case $answer in
		*'"return"'*) return 0 ;;
		*'"error"'*) echo "$answer" | diag; return 1 ;;
		esac
	done
	answer=''
	return 1
}
capability() { qmp migrate-set-capabilities "{\"capabilities\":[{\"capability\":\"$1\",\"state\":true}]}"; }
migrated() { qmp query-migrate && [[ $answer == *'"status": "completed"'* ]]; }
runs() { qmp query-status && [[ $answer == *'"running": true'* ]]; }

[ -e /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
command -v qemu-system-x86_64 >/dev/null && command -v socat >/dev/null || { echo "1..0 # SKIP no QEMU or no socat"; exit 0; }
mkdir -p "$mnt"
mount -t vmplatfs none "$mnt" || bail "mount"
make_initrd || bail "initrd"

# share=off would hide the guest's writes: QEMU must say that it cannot
qemu private "mem-path=$mnt/private,share=off" -S
wait_for 60 grep -q . "$dir/qemu.private" || kill "$last" 2>/dev/null
wait "$last"
status=$?
pids=()
check "$([ "$status" != 0 ] && grep -qi 'map.*Invalid argument' "$dir/qemu.private"; echo $?)" "share=off is refused"
diag <"$dir/qemu.private"
rm -f "$mnt/private"

boot_first() {
	rm -f "$mnt/first"
	qemu first "mem-path=$mnt/first,share=on"
	first=$last
	goes_on first "$first" 2
}
three_times boot_first || bail "the guest does not come up"
check 0 "a stock guest runs on vmplatfs under KVM"
adopt < <("$programs/observe" "$mnt/first" $mib)

# One instant, stored: QEMU writes its device state, we the memory; the guest goes on as soon as the view exists.
qmp_open first
capability x-ignore-shared && qmp stop || bail "stop"
at=$(rounds "$dir/console.first")
qmp migrate "{\"uri\":\"file:$dir/state\"}" || bail "migrate"
wait_for 60 migrated
check $? "QEMU writes its device state"
stopped=$("$programs/observe" --sum "$mnt/first")
"$programs/observe" --image "$mnt/first" "$mnt/image" >"$dir/image" &
image=$!
wait_for 60 grep -q '^frozen' "$dir/image" || bail "no image"
qmp cont || bail "cont"
wait "$image"
check $? "the memory of that instant is copied while the guest goes on"
check "$([ "$("$programs/observe" --sum "$mnt/image")" = "$stopped" ]; echo $?)" "it is what the guest had when it was stopped"
qmp_close

finish first "$first"
check $? "the guest finishes undisturbed"
wait_for 30 eval "! kill -0 $first" || kill -KILL "$first"
rm -f "$mnt/first"

continue_second() {
	rm -f "$mnt/second"
	cp --sparse=always "$mnt/image" "$mnt/second" || bail "no room for a second guest"
	qemu second "mem-path=$mnt/second,share=on" -incoming defer
	second=$last
	qmp_open second
	capability x-ignore-shared && qmp migrate-incoming "{\"uri\":\"file:$dir/state\"}" || return
	wait_for 60 migrated || qmp query-migrate
	runs || qmp cont
	wait_for 60 runs
	taken=$?
	qmp_close
	[ $taken = 0 ] && goes_on second "$second" $((at + 2)) && finish second "$second"
}
three_times continue_second
check $? "image and state go on in a second QEMU, past round $at, to the end"
diag <"$dir/qemu.second"
echo "1..$n"
exit $failed
