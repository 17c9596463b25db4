// SPDX-License-Identifier: GPL-2.0-only
/*
 * aarch64: double precision as the architecture has it, with its flags, its modes and its NaNs,
 * and what EL0 may not do. Values were worked out by hand from IEEE 754; none is what a machine
 * said.
 */
#include "guest.h"

const char arch_name[] = "aarch64";

__asm__(".globl _start\n_start: mov x0, sp\nand x1, x0, #-16\nmov sp, x1\nbl begin\n");

long arch_syscall(long nr, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = nr, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = 0;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
}

/* ---- floating point ------------------------------------------------------------ */

#define ONE		0x3ff0000000000000
#define THREE		0x4008000000000000
#define THIRD		0x3fd5555555555555	/* 1/3 cut off */
#define HALF_ULP	0x3ca0000000000000	/* 2^-53: a tie, added to 1 */
#define MAX		0x7fefffffffffffff
#define MIN_NORMAL	0x0010000000000000
#define INF		0x7ff0000000000000
#define NAN		0x7ff8000000000000	/* the default one */
#define SIGNALING	0x7ff0000000001234
#define MINUS		0x8000000000000000

/* FPSR */
enum { IOC = 1, DZC = 2, OFC = 4, UFC = 8, IXC = 16 };
/* FPCR */
#define NEAREST		(0ul << 22)
#define UP		(1ul << 22)
#define DOWN		(2ul << 22)
#define ZERO		(3ul << 22)
#define FLUSH		(1ul << 24)
#define DEFAULT_NAN	(1ul << 25)

#define OP2(name, text)								\
static uint64_t name(uint64_t a, uint64_t b)					\
{										\
	uint64_t r;								\
										\
	__asm__ volatile("fmov d0, %1\nfmov d1, %2\n" text "\nfmov %0, d2"	\
			 : "=r"(r) : "r"(a), "r"(b) : "v0", "v1", "v2", "v3");	\
	return r;								\
}

OP2(divide, "fdiv d2, d0, d1")
OP2(sum, "fadd d2, d0, d1")
OP2(product, "fmul d2, d0, d1")
OP2(root, "fsqrt d2, d0")
OP2(lesser, "fmin d2, d0, d1")
OP2(lesser_number, "fminnm d2, d0, d1")
OP2(greater, "fmax d2, d0, d1")
/* (a * b) - 1, rounded once */
OP2(mul_less_one, "fmov d3, #1.0\nfnmsub d2, d0, d1, d3")
OP2(round_away, "frinta d2, d0")
OP2(round_even, "frintn d2, d0")
OP2(sum_s, "fadd s2, s0, s1")
OP2(narrow, "fcvt s2, d0")
OP2(half, "fcvt h2, d0")
OP2(widen, "fcvt d2, s0")
/* two singles at once; a write to a half of a register clears the other */
OP2(pair_sum, "fadd v2.2s, v0.2s, v1.2s")
OP2(write_low, "fmov d2, d1\nfmov s2, s0")

#define TO_INT(name, text)							\
static uint64_t name(uint64_t a)						\
{										\
	uint64_t r;								\
										\
	__asm__ volatile("fmov d0, %1\n" text : "=r"(r) : "r"(a) : "v0", "cc");	\
	return r;								\
}

TO_INT(to_w, "fcvtzs %w0, d0")
TO_INT(to_wu, "fcvtzu %w0, d0")
TO_INT(to_x, "fcvtzs %0, d0")
TO_INT(to_x_away, "fcvtas %0, d0")
TO_INT(flags_itself, "fcmp d0, d0\nmrs %0, nzcv")
TO_INT(flags_loudly, "fcmpe d0, d0\nmrs %0, nzcv")

static unsigned long take_flags(void)
{
	unsigned long flags;

	__asm__ volatile("mrs %0, fpsr\nmsr fpsr, xzr" : "=r"(flags));
	return flags & 0x9f;
}

static void set_mode(unsigned long mode)
{
	__asm__ volatile("msr fpcr, %0" : : "r"(mode));
}

static void check_rounding(void)
{
	set_mode(NEAREST);
	take_flags();
	check("1/3 to nearest", divide(ONE, THREE), THIRD);
	check("it is inexact", take_flags(), IXC);
	check("a tie to even", sum(ONE, HALF_ULP), ONE);
	set_mode(UP);
	check("1/3 up", divide(ONE, THREE), THIRD + 1);
	check("-1/3 up", divide(ONE | MINUS, THREE), THIRD | MINUS);
	check("a tie up", sum(ONE, HALF_ULP), ONE + 1);
	set_mode(DOWN);
	check("1/3 down", divide(ONE, THREE), THIRD);
	check("-1/3 down", divide(ONE | MINUS, THREE), (THIRD + 1) | MINUS);
	set_mode(ZERO);
	check("1/3 towards zero", divide(ONE, THREE), THIRD);
	check("-1/3 towards zero", divide(ONE | MINUS, THREE), THIRD | MINUS);
	set_mode(NEAREST);
	check("2.5, a tie away from zero", round_away(0x4004000000000000, 0), THREE);
	check("2.5, a tie to even", round_even(0x4004000000000000, 0), 0x4000000000000000);
	check("2.5 to an integer, away", to_x_away(0x4004000000000000), 3);
}

static void check_flags(void)
{
	take_flags();
	check("3/1 is exact", divide(THREE, ONE), THREE);
	check("and says nothing", take_flags(), 0);
	check("1/0", divide(ONE, 0), INF);
	check("is a division by zero", take_flags(), DZC);
	check("0/0", divide(0, 0), NAN);
	check("is invalid", take_flags(), IOC);
	check("the largest, twice", sum(MAX, MAX), INF);
	check("overflows", take_flags(), OFC | IXC);
	check("the smallest normal, a third of it", divide(MIN_NORMAL, THREE), 0x0005555555555555);
	check("underflows", take_flags(), UFC | IXC);
	check("half of it is exact", product(MIN_NORMAL, 0x3fe0000000000000), 0x0008000000000000);
	check("and says nothing", take_flags(), 0);
	set_mode(FLUSH);
	check("half of it, flushed", product(MIN_NORMAL, 0x3fe0000000000000), 0);
	set_mode(NEAREST);
	take_flags();
	check("root of -1", root(ONE | MINUS, 0), NAN);
	check("is invalid", take_flags(), IOC);
}

#define N	(1ul << 31)
#define Z	(1ul << 30)
#define C	(1ul << 29)
#define V	(1ul << 28)

static void check_nan(void)
{
	take_flags();
	check("a payload is kept", sum(0x7ff8000000001234, ONE), 0x7ff8000000001234);
	check("a quiet NaN raises nothing", take_flags(), 0);
	check("a signaling one becomes quiet", sum(SIGNALING, ONE), 0x7ff8000000001234);
	check("is invalid", take_flags(), IOC);
	set_mode(DEFAULT_NAN);
	check("or the default one", sum(0x7ff8000000001234, ONE), NAN);
	set_mode(NEAREST);
	take_flags();
	check("a NaN is unordered", flags_itself(NAN), C | V);
	check("quietly", take_flags(), 0);
	check("or loudly", flags_loudly(NAN), C | V);
	check("which is invalid", take_flags(), IOC);
	check("1 equals itself", flags_itself(ONE), Z | C);
	check("the lesser of NaN and 1", lesser(NAN, ONE), NAN);
	check("the lesser number of them", lesser_number(NAN, ONE), ONE);
	check("the lesser of 0 and -0", lesser(0, MINUS), MINUS);
	check("the greater of -0 and 0", greater(MINUS, 0), 0);
}

static void check_widths(void)
{
	check("a single clears what is above it", write_low(0x3f800000, ~0ULL), 0x3f800000);
	check("1 + 1 of singles", sum_s(0x3f800000, 0x3f800000), 0x40000000);
	check("two sums at once", pair_sum(0x4040000040000000, 0x3f8000003f800000),
	      0x4080000040400000);
	check("1/3 as a single", narrow(THIRD, 0), 0x3eaaaaab);
	check("and back", widen(0x3eaaaaab, 0), 0x3fd5555560000000);
	check("1/3 as a half", half(THIRD, 0), 0x3555);
}

static void check_integers(void)
{
	take_flags();
	check("NaN to 32 bits", to_w(NAN), 0);
	check("is invalid", take_flags(), IOC);
	check("-1 to 32 bits without sign", to_wu(ONE | MINUS), 0);
	check("-1 to 64 bits", to_x(ONE | MINUS), ~0ULL);
	check("-infinity to 64 bits", to_x(INF | MINUS), MINUS);
	check("2^40 to 32 bits", to_w(0x4270000000000000), 0x7fffffff);
}

void arch_check_float(void)
{
	check_rounding();
	check_flags();
	check_nan();
	check_widths();
	check_integers();
	check("root of 2", root(0x4000000000000000, 0), 0x3ff6a09e667f3bcd);
	check("a product and a sum are rounded once", mul_less_one(ONE + 1, ONE - 2),
	      0xb970000000000000);
}

bool arch_keeps_float(uint64_t seed, void (*yield)(void))
{
	bool ok = true;

	for (int i = 0; i < 200; i++) {
		uint64_t a = seed + (uint64_t)i, b = ~a, mode = (seed & 3) << 22, x, y, z;

		__asm__ volatile("fmov d8, %3\ndup v31.2d, %4\nmsr fpcr, %5\nblr %6\n"
				 "fmov %0, d8\nmov %1, v31.d[1]\nmrs %2, fpcr"
				 : "=&r"(x), "=&r"(y), "=&r"(z)
				 : "r"(a), "r"(b), "r"(mode), "r"(yield)
				 : "memory", "cc", "v8", "v31", "x0", "x1", "x2", "x3", "x4", "x5",
				   "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
				   "x16", "x17", "x18", "x30");
		ok &= x == a && y == b && z == mode;
	}
	set_mode(NEAREST);
	return ok;
}

/* ---- privilege --------------------------------------------------------------- */

#define TRAP(name, text)							\
static void name(void)								\
{										\
	__asm__ volatile(text : : : "x0", "memory", "cc");			\
}

TRAP(read_time, "mrs x0, cntvct_el0")
TRAP(read_level, "mrs x0, CurrentEL")
TRAP(read_sctlr, "mrs x0, sctlr_el1")
TRAP(write_ttbr, "msr ttbr0_el1, xzr")
TRAP(write_vbar, "msr vbar_el1, xzr")
TRAP(mask_interrupts, "msr daifset, #2")
TRAP(read_vttbr, "mrs x0, vttbr_el2")
TRAP(do_eret, "eret")
TRAP(do_hvc, "hvc #0")
TRAP(do_smc, "smc #0")
TRAP(flush_tlb, "tlbi vmalle1")
TRAP(read_kernel, "mov x0, #-4096\nldr x0, [x0]")
TRAP(write_null, "mov x0, #0\nstr xzr, [x0]")

void arch_check_privilege(void)
{
	check_end("a program may read the time", read_time, 0);
	check_end("not its exception level", read_level, SIGILL);
	check_end("not read sctlr_el1", read_sctlr, SIGILL);
	check_end("not write ttbr0_el1", write_ttbr, SIGILL);
	check_end("not write vbar_el1", write_vbar, SIGILL);
	check_end("not mask interrupts", mask_interrupts, SIGILL);
	check_end("not read vttbr_el2", read_vttbr, SIGILL);
	check_end("no eret", do_eret, SIGILL);
	check_end("no hvc", do_hvc, SIGILL);
	check_end("no smc", do_smc, SIGILL);
	check_end("no tlbi", flush_tlb, SIGILL);
	check_end("not read the kernel's memory", read_kernel, SIGSEGV);
	check_end("not write where nothing is", write_null, SIGSEGV);
}
