/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A disk that boots: its first sector, run by a BIOS. Says by the BIOS how often it was started, which
 * it keeps in the second sector, and waits for a key: r resets the machine, any other powers it off.
 */
	.code16
	.globl start
start:	cli
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0x7c00, %sp
	sti
	mov	%dl, drive

	mov	$0x42, %ah		/* read the second sector */
	call	disk
	incw	count
	mov	$0x43, %ah		/* and write it */
	call	disk

	mov	$words, %si
	call	say
	mov	count, %ax
	add	$'0', %al
	call	say_al
	mov	$end, %si
	call	say

	xor	%ah, %ah		/* a key */
	int	$0x16
	cmp	$'r', %al
	je	reset
	mov	$0x604, %dx		/* PM1a control, where SeaBIOS puts it on q35: S5 */
	mov	$0x2000, %ax
	out	%ax, %dx
	jmp	.
reset:	mov	$0x0e, %al		/* the reset register of the chipset */
	mov	$0xcf9, %dx
	out	%al, %dx
	jmp	.

/* AH: what; the packet says where */
disk:	mov	drive, %dl
	mov	$packet, %si
	xor	%al, %al
	int	$0x13
	jnc	1f
	mov	$error, %si
	call	say
1:	ret

say_al:	mov	$0x0e, %ah
	mov	$7, %bx
	int	$0x10
	ret
1:	call	say_al
say:	lodsb
	test	%al, %al
	jnz	1b
	ret

words:	.asciz	"\r\nSECTOR started "
end:	.asciz	" times\r\n"
error:	.asciz	"\r\nSECTOR error\r\n"
drive:	.byte	0
	.align	4
packet:	.byte	16, 0
	.word	1			/* one sector */
	.word	count, 0		/* to here */
	.quad	1			/* the second */

	.org	510
	.word	0xaa55
	.set	count, start + 512
