// SPDX-License-Identifier: GPL-2.0-only
/*
 * riscv64: the D extension as the specification has it, down to flags and NaN boxes, and what
 * U-mode may not do. Values were worked out by hand from IEEE 754; none is what a machine said.
 */
#include "guest.h"

const char arch_name[] = "riscv64";

__asm__(".globl _start\n_start: .option push\n.option norelax\nla gp, __global_pointer$\n"
	".option pop\nmv a0, sp\nandi sp, sp, -16\ncall begin\n");

long arch_syscall(long nr, long a, long b, long c, long d)
{
	register long a7 __asm__("a7") = nr, a0 __asm__("a0") = a, a1 __asm__("a1") = b;
	register long a2 __asm__("a2") = c, a3 __asm__("a3") = d, a4 __asm__("a4") = 0;

	__asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4) : "memory");
	return a0;
}

/* ---- floating point ------------------------------------------------------------ */

#define ONE		0x3ff0000000000000
#define THREE		0x4008000000000000
#define THIRD		0x3fd5555555555555	/* 1/3 cut off */
#define ULP		0x3cb0000000000000	/* 2^-52 */
#define HALF_ULP	0x3ca0000000000000	/* 2^-53: a tie, added to 1 */
#define MAX		0x7fefffffffffffff
#define MIN_NORMAL	0x0010000000000000
#define INF		0x7ff0000000000000
#define NAN		0x7ff8000000000000	/* the canonical one */
#define SIGNALING	0x7ff0000000000001
#define MINUS		0x8000000000000000

enum { NX = 1, UF = 2, OF = 4, DZ = 8, NV = 16 };

#define OP2(name, text)								\
static uint64_t name(uint64_t a, uint64_t b)					\
{										\
	uint64_t r;								\
										\
	__asm__ volatile("fmv.d.x ft0, %1\nfmv.d.x ft1, %2\n" text "\nfmv.x.d %0, ft2" \
			 : "=r"(r) : "r"(a), "r"(b) : "ft0", "ft1", "ft2");	\
	return r;								\
}

OP2(div_rne, "fdiv.d ft2, ft0, ft1, rne")
OP2(div_rtz, "fdiv.d ft2, ft0, ft1, rtz")
OP2(div_rdn, "fdiv.d ft2, ft0, ft1, rdn")
OP2(div_rup, "fdiv.d ft2, ft0, ft1, rup")
OP2(div_dyn, "fdiv.d ft2, ft0, ft1, dyn")
OP2(add_rne, "fadd.d ft2, ft0, ft1, rne")
OP2(add_rmm, "fadd.d ft2, ft0, ft1, rmm")
OP2(mul_rne, "fmul.d ft2, ft0, ft1, rne")
OP2(min_d, "fmin.d ft2, ft0, ft1")
OP2(max_d, "fmax.d ft2, ft0, ft1")
OP2(sgnjx, "fsgnjx.d ft2, ft0, ft1")
OP2(sqrt_rne, "fsqrt.d ft2, ft0, rne")
/* (a * b) - 1, rounded once */
OP2(mul_less_one, "li t0, 1\nfcvt.d.w ft3, t0\nfmsub.d ft2, ft0, ft1, ft3, rne")
/* a single in the low half of a register */
OP2(add_s, "fadd.s ft2, ft0, ft1, rne")
OP2(narrow, "fcvt.s.d ft2, ft0, rne")
OP2(widen, "fcvt.d.s ft2, ft0")
OP2(load_w, "fmv.w.x ft2, %1")

#define TO_INT(name, text)							\
static uint64_t name(uint64_t a)						\
{										\
	uint64_t r;								\
										\
	__asm__ volatile("fmv.d.x ft0, %1\n" text : "=r"(r) : "r"(a) : "ft0");	\
	return r;								\
}

TO_INT(to_w, "fcvt.w.d %0, ft0, rtz")
TO_INT(to_wu, "fcvt.wu.d %0, ft0, rtz")
TO_INT(to_l, "fcvt.l.d %0, ft0, rtz")
TO_INT(to_w_rne, "fcvt.w.d %0, ft0, rne")
TO_INT(class_d, "fclass.d %0, ft0")
TO_INT(equal_itself, "feq.d %0, ft0, ft0")
TO_INT(less_itself, "flt.d %0, ft0, ft0")

static unsigned long take_flags(void)
{
	unsigned long flags;

	__asm__ volatile("fsflags %0, zero" : "=r"(flags));
	return flags;
}

static void set_rounding(unsigned long mode)
{
	__asm__ volatile("fsrm zero, %0" : : "r"(mode));
}

static void check_rounding(void)
{
	take_flags();
	check("1/3 to nearest", div_rne(ONE, THREE), THIRD);
	check("it is inexact", take_flags(), NX);
	check("1/3 towards zero", div_rtz(ONE, THREE), THIRD);
	check("1/3 down", div_rdn(ONE, THREE), THIRD);
	check("1/3 up", div_rup(ONE, THREE), THIRD + 1);
	check("-1/3 towards zero", div_rtz(ONE | MINUS, THREE), THIRD | MINUS);
	check("-1/3 down", div_rdn(ONE | MINUS, THREE), (THIRD + 1) | MINUS);
	check("-1/3 up", div_rup(ONE | MINUS, THREE), THIRD | MINUS);
	check("a tie to even", add_rne(ONE, HALF_ULP), ONE);
	check("a tie away from zero", add_rmm(ONE, HALF_ULP), ONE + 1);
	set_rounding(3);
	check("1/3 as frm says, up", div_dyn(ONE, THREE), THIRD + 1);
	set_rounding(1);
	check("1/3 as frm says, towards zero", div_dyn(ONE, THREE), THIRD);
	set_rounding(0);
	check("2.5 to an integer, to even", to_w_rne(0x4004000000000000), 2);
}

static void check_flags(void)
{
	take_flags();
	check("3/1 is exact", div_rne(THREE, ONE), THREE);
	check("and says nothing", take_flags(), 0);
	check("1/0", div_rne(ONE, 0), INF);
	check("is a division by zero", take_flags(), DZ);
	check("0/0", div_rne(0, 0), NAN);
	check("is invalid", take_flags(), NV);
	check("the largest, twice", add_rne(MAX, MAX), INF);
	check("overflows", take_flags(), OF | NX);
	check("the smallest normal, a third of it", div_rne(MIN_NORMAL, THREE), 0x0005555555555555);
	check("underflows", take_flags(), UF | NX);
	check("half of it is exact", mul_rne(MIN_NORMAL, 0x3fe0000000000000), 0x0008000000000000);
	check("and says nothing", take_flags(), 0);
	check("root of -1", sqrt_rne(ONE | MINUS, 0), NAN);
	check("is invalid", take_flags(), NV);
}

static void check_nan(void)
{
	take_flags();
	check("a payload is dropped", add_rne(0x7ff8000000001234, ONE), NAN);
	check("a quiet NaN raises nothing", take_flags(), 0);
	check("a signaling one", add_rne(SIGNALING, ONE), NAN);
	check("is invalid", take_flags(), NV);
	check("a NaN does not equal itself", equal_itself(NAN), 0);
	check("quietly", take_flags(), 0);
	check("nor is it less", less_itself(NAN), 0);
	check("which is invalid", take_flags(), NV);
	check("the lesser of NaN and 1", min_d(NAN, ONE), ONE);
	check("the lesser of 0 and -0", min_d(0, MINUS), MINUS);
	check("the greater of -0 and 0", max_d(MINUS, 0), 0);
	check("class of -0", class_d(MINUS), 1 << 3);
	check("class of a subnormal", class_d(1), 1 << 5);
	check("class of -infinity", class_d(INF | MINUS), 1 << 0);
	check("class of a signaling NaN", class_d(SIGNALING), 1 << 8);
	check("signs multiplied", sgnjx(THREE | MINUS, ONE | MINUS), THREE);
}

static void check_boxes(void)
{
	check("a single is boxed in ones", load_w(0x3f800000, 0), 0xffffffff3f800000);
	check("1 + 1 of singles", add_s(0xffffffff3f800000, 0xffffffff3f800000), 0xffffffff40000000);
	check("what is not boxed is a NaN", add_s(0x000000003f800000, 0xffffffff3f800000),
	      0xffffffff7fc00000);
	check("1/3 as a single", narrow(THIRD, 0), 0xffffffff3eaaaaab);
	check("and back", widen(0xffffffff3eaaaaab, 0), 0x3fd5555560000000);
	check("what is not boxed, as a double", widen(0x000000003eaaaaab, 0), NAN);
}

static void check_integers(void)
{
	take_flags();
	check("NaN to 32 bits", to_w(NAN), 0x7fffffff);
	check("is invalid", take_flags(), NV);
	check("-1 to 32 bits without sign", to_wu(ONE | MINUS), 0);
	check("-1 to 64 bits", to_l(ONE | MINUS), ~0ULL);
	check("-infinity to 64 bits", to_l(INF | MINUS), MINUS);
	check("2^32 - 1 without sign is kept as if it had one", to_wu(0x41efffffffe00000), ~0ULL);
}

void arch_check_float(void)
{
	check_rounding();
	check_flags();
	check_nan();
	check_boxes();
	check_integers();
	check("root of 2", sqrt_rne(0x4000000000000000, 0), 0x3ff6a09e667f3bcd);
	check("a product and a sum are rounded once", mul_less_one(ONE + 1, ONE - 2),
	      0xb970000000000000);
}

bool arch_keeps_float(uint64_t seed, void (*yield)(void))
{
	bool ok = true;

	for (int i = 0; i < 200; i++) {
		uint64_t a = seed + (uint64_t)i, b = ~a, x, y;

		__asm__ volatile("fmv.d.x fs0, %2\nfmv.d.x fs11, %3\nfsrm %4\n"
				 "jalr %5\nfmv.x.d %0, fs0\nfmv.x.d %1, fs11"
				 : "=&r"(x), "=&r"(y)
				 : "r"(a), "r"(b), "r"(seed & 3), "r"(yield)
				 : "ra", "memory", "fs0", "fs11", "a0", "a1", "a2", "a3", "a4", "a5",
				   "a6", "a7", "t0", "t1", "t2", "t3", "t4", "t5", "t6");
		ok &= x == a && y == b;
	}
	set_rounding(0);
	return ok;
}

/* ---- privilege --------------------------------------------------------------- */

#define TRAP(name, text)							\
static void name(void)								\
{										\
	__asm__ volatile(text : : : "t0", "memory");				\
}

TRAP(read_time, "rdtime t0")
TRAP(read_sstatus, "csrr t0, sstatus")
TRAP(write_satp, "csrw satp, zero")
TRAP(read_mstatus, "csrr t0, mstatus")
TRAP(write_time, "csrw time, zero")
TRAP(do_sret, "sret")
TRAP(do_mret, "mret")
TRAP(flush_tlb, "sfence.vma")
TRAP(write_sie, "csrsi sie, 0")
TRAP(read_kernel, "li t0, -4096\nld t0, 0(t0)")
TRAP(write_null, "sd zero, 0(zero)")

void arch_check_privilege(void)
{
	check_end("a program may read the time", read_time, 0);
	check_end("not write it", write_time, SIGILL);
	check_end("not read sstatus", read_sstatus, SIGILL);
	check_end("not write satp", write_satp, SIGILL);
	check_end("not write sie", write_sie, SIGILL);
	check_end("not read mstatus", read_mstatus, SIGILL);
	check_end("no sret", do_sret, SIGILL);
	check_end("no mret", do_mret, SIGILL);
	check_end("no sfence.vma", flush_tlb, SIGILL);
	check_end("not read the kernel's memory", read_kernel, SIGSEGV);
	check_end("not write where nothing is", write_null, SIGSEGV);
}
