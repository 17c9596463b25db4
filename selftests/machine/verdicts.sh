#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# vmplat host on a host that is changed under it: without KVM, without the module, as somebody without rights, with huge
# pages, without and with an IOMMU of each kind. Everything is put back. Runs in the test host.
. "$(dirname "$0")/../tap.sh"
modprobe=$(</proc/sys/kernel/modprobe)
ko=$VMPLAT_SRC/build/kmod/$(uname -r)/vmplat.ko
huge=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
thp=/sys/kernel/mm/transparent_hugepage/enabled
unsafe=/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts
kvm=''
for m in kvm_amd kvm_intel; do [ -e /sys/module/$m ] && kvm=$m; done

# verdict USE ABILITY TEXT...: of that use, with each text in its reason or next step, and the status that goes with it
verdict() {
	local use=$1 ability=$2 status want=0 text
	shift 2
	[ "$ability" = no ] && want=1
	${as:-} vmplat host --check "$use" >"$out.v"
	status=$?
	cat "$out.v"
	[ $status = $want ] || { echo "status $status"; return 1; }
	grep -q "^$use  *$ability  " "$out.v" || { echo "not $ability"; return 1; }
	for text; do grep -qF -- "$text" "$out.v" || { echo "no '$text'"; return 1; }; done
}
# fact KEY VALUE: the first of that name in the JSON
fact() {
	local got
	got=$(grep -m 1 "\"$1\":" "$out.json" | sed 's/^[^:]*: *//; s/,$//')
	[ "$got" = "$2" ] || { echo "$1 is '$got', not '$2'"; return 1; }
}
device() { chgrp kvm "$1" && chmod 660 "$1"; }

facts() {
	vmplat host >"$out.text"
	check "status 0, whatever the verdicts" [ $? = 0 ]
	mount -t securityfs none /sys/kernel/security 2>/dev/null
	check "--json" eval 'vmplat host --json >"$out.json"'
	check "kernel" fact kernel "\"$(uname -r)\""
	check "threads" fact threads "$(nproc)"
	total=$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) * 1024))
	check "memory" says "\"bytes\": $total," grep -A 1 '"memory": {' "$out.json"
	check "who runs this host" fact guest true
	check "each node" [ "$(grep -c '"cpus":' "$out.json")" = "$(ls -d /sys/devices/system/node/node[0-9]* | wc -l)" ]
	check "each vulnerability" [ "$(grep -c '"state":' "$out.json")" = "$(ls /sys/devices/system/cpu/vulnerabilities | wc -l)" ]
	if [ -e /sys/kernel/security/lockdown ]; then
		check "lockdown" fact lockdown "\"$(sed 's/.*\[\(.*\)\].*/\1/' /sys/kernel/security/lockdown)\""
	fi
	umount /sys/kernel/security 2>/dev/null
}

measures() {
	check "--measure" eval 'vmplat host --measure --json >"$out.json"'
	check "five clocks" [ "$(grep -c '"step_ns": [1-9]' "$out.json")" = 5 ]
	check "the one the kernel has" fact clock_source "\"$(</sys/devices/system/clocksource/clocksource0/current_clocksource)\""
	check "a timer, of which no period is forgotten" grep -q '"late_max_ns": [1-9]' "$out.json"
	check "code that was generated runs, devices are emulated by faults" [ "$(sed -n '/"generated_code"/,$p' "$out.json" |
		grep -c '"works": true')" = 2 ]
	check "the counter works, or why not" says '"works": true\|"reason": "no time from the counter' grep -A 2 '"counter"' "$out.json"
	check "for people" says "^faults *emulate devices" vmplat host --measure
	check "not of a copy" status 2 vmplat host --measure --root /
}

all_there() {
	check "the module: yes" verdict snapshots yes "this program's"
	check "events: yes" verdict events yes
}

without_kvm() {
	if [ -n "$kvm" ]; then
		check "KVM: yes" verdict run yes "KVM API 12"
		check "nothing that is needed is missing" not grep -q "(needed)" "$out.text"
		mv /dev/kvm /dev/kvm.away
		check "no /dev/kvm: no" verdict run no "$kvm is there" "mknod"
		check "the others do not care" verdict snapshots yes
		mv /dev/kvm.away /dev/kvm
		if grep -q "^$kvm " /proc/modules && rmmod "$kvm"; then
			check "no $kvm: no" verdict run no "$kvm is not loaded" "modprobe $kvm"
			check "without nested paging" "$modprobe" "$kvm" "$([ "$kvm" = kvm_amd ] && echo npt=0 || echo ept=0)"
			check "limited" verdict run limited "without nested paging" "load $kvm with"
			rmmod "$kvm"
			"$modprobe" "$kvm"
			device /dev/kvm
		fi
		check "KVM is back: yes" verdict run yes
	else
		check "a kernel without KVM: no" verdict run no
	fi
}

# the checkout may be closed to somebody else: a copy
without_rights() {
	mkdir "$tmp/bin" "$tmp/lib"
	cp "$(command -v vmplat)" "$tmp/bin" && cp "$VMPLAT_SRC"/build/user/lib/libvmplat.so.0 "$tmp/lib" && chmod -R a+rX "$tmp"
	nobody() { setpriv --reuid 65534 --regid 65534 --"$groups" env LD_LIBRARY_PATH="$tmp/lib" PATH="$tmp/bin:$PATH" "$@"; }
	as=nobody groups=clear-groups
	check "nobody, the module: no" verdict snapshots no "nobody may not open /dev/vmplat (group kvm, mode 0660)" "usermod -aG kvm nobody"
	check "nobody, events: hardware only" verdict events limited "hardware and networks only" "usermod -aG kvm nobody"
	[ -n "$kvm" ] && check "nobody, KVM: no" verdict run no "nobody may not open /dev/kvm" "usermod -aG kvm nobody"
	groups=groups=$(stat -c %g /dev/vmplat)
	check "as a member of the group: yes" verdict snapshots yes
	[ -n "$kvm" ] && check "KVM as well" verdict run yes
	as=''
}

without_module() {
	check "the module is unloaded" rmmod vmplat
	check "no module: no" verdict snapshots no "the module is not loaded" "make"
	check "no events: no" verdict events no "the module is not loaded"
	[ -n "$kvm" ] && check "guests without snapshots: limited" verdict run limited "--memory-backend memfd"
	check "looking does not load it" [ ! -e /sys/module/vmplat ]
	check "the module is back" insmod "$ko"
	device /dev/vmplat
	check "the module: yes" verdict snapshots yes
}

huge_pages() {
	if [ -e $huge ]; then
		had=$(cat $huge)
		thp_had=$(sed 's/.*\[\(.*\)\].*/\1/' $thp 2>/dev/null)
		echo 8 >$huge
		check "8 huge pages: yes" verdict hugepages yes "8 of 8 pages of 2 MiB are free"
		echo 0 >$huge
		if [ -n "$thp_had" ]; then
			echo madvise >$thp
			check "transparent ones only: limited" verdict hugepages limited "no huge pages are reserved" "(madvise)" "vm.nr_hugepages"
			echo never >$thp
		fi
		check "none: no" verdict hugepages no "vm.nr_hugepages"
		[ -n "$thp_had" ] && echo "$thp_had" >$thp
		echo "$had" >$huge
	else
		check "a kernel without huge pages: no" verdict hugepages no "this kernel has no huge pages"
	fi
}

devices() {
	case $VMPLAT_IOMMU in
	none)
		check "no IOMMU: no" verdict passthrough no "every device reaches all memory" "-device intel-iommu"
		;;
	intel)
		check "intel: yes" verdict passthrough yes "confines the devices of"
		# a group of one device without a driver may change its type
		for type in /sys/kernel/iommu_groups/*/type; do
			d=("${type%/type}"/devices/*)
			[ ${#d[@]} = 1 ] && [ ! -e "${d[0]}/driver" ] && had=$(cat "$type") && echo identity >"$type" && break
		done 2>/dev/null
		check "a group is in an identity domain" grep -q identity "$type"
		check "which isolates nothing: limited" verdict passthrough limited "1 of " "identity (pass-through) domains, which isolate nothing" "iommu=pt"
		echo "$had" >"$type"
		check "intel again: yes" verdict passthrough yes
		;;
	amd)
		check "amd without interrupt remapping: no" verdict passthrough no "interrupts are not remapped" "allow_unsafe_interrupts=1"
		"$modprobe" vfio_iommu_type1
		had=$(cat $unsafe)
		echo 1 >$unsafe
		check "accepted, but perhaps in pass-through: limited" verdict passthrough limited "isolates only if it was started with pt=off" "pt=off"
		echo "$had" >$unsafe
		;;
	esac
}

# functions that can have virtual functions
pfs() { grep -lvx 0 /sys/bus/pci/devices/*/sriov_totalvfs 2>/dev/null; }

virtual_functions() {
	local f driver bound=() works=yes
	[ "$VMPLAT_IOMMU" = none ] && works=limited
	if [ -z "$(pfs)" ]; then
		check "no virtual functions: no" verdict sriov no "no PCI function here"
		case $(uname -r) in *-debug) return ;; esac	# which neither plugs cards nor has drivers for them
		check "a card that has them is plugged" "$VMPLAT_SRC"/selftests/host/qmp device_add \
			'{"driver": "igb", "id": "igb0", "bus": "rp1"}'
		until [ -n "$(pfs)" ]; do sleep 0.1; done
	fi
	"$modprobe" igb
	for f in $(pfs); do
		f=${f%/*}
		driver=$(readlink -e "$f/driver") || continue
		echo "${f##*/}" >"$driver/unbind" && bound+=("$driver/bind ${f##*/}")
	done
	check "no card with a driver: limited" verdict sriov limited "none has a driver" "load the driver of 0000:"
	for f in "${bound[@]}"; do echo "${f#* }" >"${f% *}"; done
	check "with a driver: $works" verdict sriov $works "$(pfs | wc -l) functions can have"
}

mistakes() {
	check "an unknown use is a usage error" status 2 vmplat host --check nonsense
	check "and names those there are" says "one of run, snapshots" vmplat host --check nonsense
	check "a word too many" status 2 vmplat host extra
	check "a root that is not there" status 1 vmplat host --root /nonexistent
}

facts
# the rest does not depend on the IOMMU, and what is taken away and put back not on the debug kernel, which is slow
case $VMPLAT_IOMMU:$(uname -r) in
none:*-debug)
	all_there
	huge_pages
	;;
none:*)
	measures
	all_there
	without_kvm
	without_rights
	without_module
	huge_pages
	mistakes
	;;
esac
devices
virtual_functions
done_testing
