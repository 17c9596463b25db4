#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Machines that QEMU runs, emulated, on the machine that builds, where no module is: Debian's kernels for riscv64 and
# arm64 up to a program that checks what the CPU computes and forbids; discs and a disk booted by SeaBIOS and OVMF.
. "$(dirname "$0")/../tap.sh"

guests=$(cd "$(dirname "$0")/../.." && pwd)/build/selftests/foreign
discs=$VMPLAT_CACHE/discs
export VMPLAT_RUN_DIR=$tmp/vms
run() { timeout 280 vmplat run --accel tcg --memory-backend memfd --memory 256M "$@" </dev/null; }
clean_up() { local v; for v in efi bios sector; do vmplat vm stop "$v" 2>/dev/null; done; }

# ---- kernels for other machines: they begin at once, and run beside each other
initrd() { mkdir -p "$tmp/$1" && cp "$guests/init.$1" "$tmp/$1/init" && (cd "$tmp/$1" && echo init | cpio -o -H newc --quiet) >"$tmp/initrd.$1"; }
for arch in riscv64 arm64; do
	kernel=$VMPLAT_CACHE/foreign/$arch/Image
	[ -e "$kernel" ] || { echo "1..0 # SKIP no kernel for $arch in the cache: selftests/host/fetch $arch"; exit; }
	check "initrd for $arch" initrd "$arch"
	check "the kernel for $arch is known" says -- "--kernel" vmplat image info "$kernel"
	run --name "$arch" --kernel "$kernel" --initrd "$tmp/initrd.$arch" --cmdline "quiet panic=-1" \
		--console "$tmp/console.$arch" >"$tmp/end.$arch" 2>&1 &
	eval "pid_$arch=$!"
done
check "another architecture is not what it is" says "is for riscv64, not aarch64" \
	not run --kernel "$VMPLAT_CACHE/foreign/riscv64/Image" --arch aarch64

# ---- firmware, meanwhile: a disc by UEFI
check "a disc starts by OVMF" run "$discs/ipxe.iso" --firmware ovmf --efi-vars "$tmp/vars" --name efi --console "$tmp/efi" --detach
# a disk by SeaBIOS: keys in, the guest's reset, its power-off, what it wrote
cp "$guests/sector.x86" "$tmp/disk"
truncate -s 1M "$tmp/disk"
mkfifo "$tmp/keys"
sleep 600 >"$tmp/keys" &
keeper=$!
timeout 280 vmplat run --accel tcg --memory-backend memfd --memory 64M --firmware seabios --disk "$tmp/disk" \
	--name sector <"$tmp/keys" >"$tmp/sector" 2>&1 &
sector=$!
check "a disk starts by SeaBIOS" wait_for "$tmp/sector" "SECTOR started 1 times" 200
echo -n r >"$tmp/keys"
check "the guest's reset starts it again" wait_for "$tmp/sector" "SECTOR started 2 times" 200
check "it is listed with its engine" says "sector *running .*qemu/tcg x86_64 *seabios" vmplat vm list
check "vm reset" vmplat vm reset sector
check "starts it once more" wait_for "$tmp/sector" "SECTOR started 3 times" 200
check "pause" vmplat vm pause sector
check "is seen" says "sector *paused" vmplat vm list
check "QEMU stands still" says '"engine": "qemu"' vmplat vm show sector --json
check "resume" vmplat vm resume sector
echo -n x >"$tmp/keys"
check "its power-off ends the VM" wait "$sector"
check "the disk is written" test "$(od -An -tu1 -j512 -N1 "$tmp/disk")" -eq 3
kill "$keeper" && wait "$keeper" 2>/dev/null

# ---- a disc by SeaBIOS, without a graphics card: its menu is on the console
check "a disc starts by SeaBIOS" run "$discs/grub-rescue-cdrom.iso" --firmware seabios --name bios --console "$tmp/bios" --detach
check "GRUB's menu is on the console" wait_for "$tmp/bios" "GNU GRUB" 200
check "nothing is plugged into it" says "devices cannot be plugged" not vmplat vm device add bios blk file=/dev/zero
check "its devices are listed" says "cdrom *blk *present" vmplat vm device list bios
check "no snapshot without the module" says "memory is a memfd" not vmplat vm snapshot bios x --store "$tmp/store"
qemu_of() { cat "/proc/$1/task/$1/children"; }
pid=$(pgrep -f -- "--name bios --console $tmp/bios") child=$(qemu_of "$pid")
check "QEMU is its child" grep -qz "^qemu-system-x86_64" "/proc/${child% }/cmdline"
kill -9 "$pid"
gone() { local i; for i in $(seq 300); do [ -d "/proc/$1" ] && grep -qv '^State:.[ZX]' <(grep ^State "/proc/$1/status") || return 0; sleep 0.1; done; return 1; }
check "a kill -9 of vmplat is one of QEMU" gone "${child% }"

check "OVMF starts the disc's program" wait_for "$tmp/efi" "iPXE initialising" 200
check "its variables are kept" test "$(stat -c %s "$tmp/vars")" -gt 100000
check "stop" vmplat vm stop efi

# ---- what the other machines have said
for arch in riscv64 arm64; do
	eval "pid=\$pid_$arch"
	check "$arch: it has ended by itself" wait "$pid"
	check "$arch: all checks hold" grep -aE "^SELF-CHECK (riscv64|aarch64): [0-9]{2} passed, 0 failed" "$tmp/console.$arch"
	grep -a "^BAD" "$tmp/console.$arch" | sed 's/^/# /'
	for name in "1/3 up" "not read the kernel's memory" "registers of the other"; do
		check "$arch: $name" grep -qax "ok $name." "$tmp/console.$arch"
	done
done

# ---- what cannot be
check "no OVMF for riscv64" says "no OVMF for riscv64" not run --firmware ovmf --arch riscv64
check "no KVM for riscv64" says "KVM runs guests of this machine's architecture" \
	not vmplat run --memory-backend memfd --kernel "$VMPLAT_CACHE/foreign/riscv64/Image" --accel kvm
check "no QEMU" says "Debian has it in the package qemu-system-riscv" \
	not env PATH="$(dirname "$(command -v vmplat)")" "$(command -v vmplat)" run --memory-backend memfd \
	--kernel "$VMPLAT_CACHE/foreign/riscv64/Image"
check "what QEMU does not like, it says" says "QEMU does not start: .*$tmp/none" not run --firmware seabios --disk "$tmp/none"
check "no such network" says "network net0: socket $tmp/none/socket: No such file" \
	not run --firmware seabios --net "socket=$tmp/none/socket"
check "no affinity" says "taskset" not run --firmware seabios --cpu-affinity 0
check "no such firmware" says "firmware $tmp/none: No such file" not run --firmware "$tmp/none"
check "nothing to boot" says "--firmware ovmf" not run --memory 64M
done_testing
