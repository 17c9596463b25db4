#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Ways to start a kernel: unpacked by the runner or by itself, from the cache, as vmlinux, with more than 3 GiB of memory.
# What the guest sees must be the same, and random addresses random. Runs in the test host.
. "$(dirname "$0")/../tap.sh"

top=$(cd "$(dirname "$0")/../.." && pwd)
export VMPLAT_RUN_DIR=$tmp/vms XDG_CACHE_HOME=$tmp/cache
kept=$XDG_CACHE_HOME/vmplat/unpacked
clean_up() { vmplat vm stop a 2>/dev/null; }

# what a guest says about where it is; loadflags are byte 0x211 of the zero page, KASLR_FLAG is 2
cat >"$tmp/script" <<'GUEST'
virt=$(grep ' _text$' /proc/kallsyms); virt=${virt%% *}
phys=$(grep 'Kernel code' /proc/iomem | tr -d ' '); phys=${phys%%-*}
flags=$(od -An -tu1 -j529 -N1 /sys/kernel/boot_params/data)
set -- $(grep MemTotal /proc/meminfo)
echo "FACTS virt=$virt phys=$phys kaslr=$((flags / 2 % 2)) la57=$(grep -c -m1 -w la57 /proc/cpuinfo) cpus=$(nproc) memory=$2"
grep -q stay /proc/cmdline && sleep 1000
poweroff -f
GUEST
"$top/selftests/host/guest-initrd" "$tmp/initrd" --kernel "${VMPLAT_KERNEL/debug/6.12}" --script "$tmp/script" || exit 1

boot() {	# CONSOLE CMDLINE OPTION...: run until the guest powers off
	local console=$1 cmdline=$2
	shift 2
	timeout 280 vmplat run --name a --console "$console" --initrd "$tmp/initrd" --memory 256M \
		--cmdline "console=ttyS0 quiet $cmdline" "$@" </dev/null &&
		grep -q '^FACTS' "$console" || { tail -5 "$console"; false; }
}
fact() { grep '^FACTS' "$1" | tail -1 | grep -o "$2=[^ ]*" | cut -d= -f2 | tr -d '\r'; }
differ() { echo "$1 $2"; [ -n "$1" ] && [ -n "$2" ] && [ "$1" != "$2" ]; }
same() { echo "$1 $2"; [ -n "$1" ] && [ "$1" = "$2" ]; }

# ---- unpacked by the runner; reset: loaded again, elsewhere; more memory than fits below the PCI hole
# by a configuration; the initrd in two pieces, its vCPUs each on a CPU of the host
mkdir "$tmp/empty" && (cd "$tmp/empty" && mkdir piece && find piece | cpio -o -H newc --quiet >"$tmp/piece")
cat >"$tmp/a.conf" <<CONF
name = a
kernel = $VMPLAT_GUEST_KERNEL
initrd = piece
initrd = initrd
cmdline = console=ttyS0 quiet stay
memory = 4G
cpus = 2
cpu-affinity = 1:0
console = a
detach = yes
CONF
check "check says what it would do" says "cpus *2 on 1:0" vmplat run "$tmp/a.conf" --check
check "starts" vmplat run "$tmp/a.conf" --memory 3584M
allowed() { local t; for t in /proc/$(pgrep -f "run $tmp/a.conf")/task/*; do
	grep -qx "$1" "$t/comm" && grep Cpus_allowed_list "$t/status"; done; }
check "vCPU 0 may run on CPU 1 alone" says "list:.1$" allowed vcpu/0
check "vCPU 1 on CPU 0" says "list:.0$" allowed vcpu/1
told() { local i; for i in $(seq 560); do [ "$(grep -c '^FACTS' "$tmp/a")" = "$1" ] && return; sleep 0.5; done; tail -5 "$tmp/a"; false; }
check "boots" told 1
v=$(fact "$tmp/a" virt) p=$(fact "$tmp/a" phys)
sed 's/^/# /' "$tmp/a" | grep -a FACTS
check "knows of KASLR" same 1 "$(fact "$tmp/a" kaslr)"
check "has both CPUs" same 2 "$(fact "$tmp/a" cpus)"
check "has memory above 4 GiB" test "$(fact "$tmp/a" memory)" -gt 3300000
check "the unpacked kernel is kept" test "$(find "$kept" -type f -size +20M | wc -l)" = 1
check "reset" vmplat vm reset a
check "boots again" told 2
check "the virtual address is another" differ "$v" "$(fact "$tmp/a" virt)"
check "so is the physical one" differ "$p" "$(fact "$tmp/a" phys)"
la57=$(fact "$tmp/a" la57)
check "stop" vmplat vm stop a

# ---- a damaged copy is not used, and replaced
file=$(find "$kept" -type f | head -1)
sum=$(md5sum <"$file")
printf x | dd of="$file" bs=1 seek=20000000 conv=notrunc 2>/dev/null
check "boots beside a damaged cache, nokaslr" boot "$tmp/b" nokaslr --kernel "$VMPLAT_GUEST_KERNEL"
check "the copy is mended" same "$sum" "$(md5sum <"$file")"
check "nokaslr: virtual" same ffffffff81000000 "$(fact "$tmp/b" virt)"
check "nokaslr: physical" same 01000000 "$(fact "$tmp/b" phys)"
check "nokaslr: and says so" same 0 "$(fact "$tmp/b" kaslr)"

# ---- unpacked by itself: the same machine
check "boots by its own code" boot "$tmp/c" "" --kernel "$VMPLAT_GUEST_KERNEL" --unpack guest
check "5-level paging is as it would be" same "$la57" "$(fact "$tmp/c" la57)"
check "KASLR is as it would be" same 1 "$(fact "$tmp/c" kaslr)"
check "no such way" says "host, host-nocache or guest" not vmplat run --kernel "$VMPLAT_GUEST_KERNEL" --unpack magic

# ---- the vmlinux in it, as a file; the kept copy is that, and more
check "what is in it" says '"kaslr": true' vmplat image info --json "$VMPLAT_GUEST_KERNEL"
cp "$file" "$tmp/vmlinux"
check "it is one" says -- "--kernel" vmplat image info "$tmp/vmlinux"
check "boots a vmlinux" boot "$tmp/d" "" --kernel "$tmp/vmlinux"
check "where it was linked" same ffffffff81000000 "$(fact "$tmp/d" virt)"

# ---- a CPU that is not there
check "no such CPU" says "none of the CPUs it is to run on is there" \
	not vmplat run --kernel "$VMPLAT_GUEST_KERNEL" --cpu-affinity 999 --console none
check "one of them is not there" says "vCPU 0 cannot run on CPU 999" \
	not vmplat run --kernel "$VMPLAT_GUEST_KERNEL" --cpu-affinity 0,999 --console none

# ---- what is no kernel, or a damaged one
cp "$VMPLAT_GUEST_KERNEL" "$tmp/damaged"
printf 'damage damage damage damage' | dd of="$tmp/damaged" bs=1 seek=4000000 conv=notrunc 2>/dev/null
check "damage is told" says "are damaged at or before byte" not vmplat run --kernel "$tmp/damaged"
head -c 4000000 "$VMPLAT_GUEST_KERNEL" >"$tmp/short"
check "so is a short file" says "cut short" not vmplat run --kernel "$tmp/short"
check "an initrd is no kernel" says "it is no kernel: initrd" not vmplat run --kernel "$VMPLAT_GUEST_INITRD"
check "a program is no kernel" says "not a kernel" not vmplat run --kernel /bin/ls
check "too little memory beside the initrd" says "give it more --memory\|give the guest more --memory" \
	not vmplat run --kernel "$VMPLAT_GUEST_KERNEL" --initrd "$VMPLAT_GUEST_INITRD" --memory 48M
check "none of it is left" not grep -q running <(vmplat vm list)
done_testing
