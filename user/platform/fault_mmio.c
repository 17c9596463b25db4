// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Loads and stores that faulted, carried out by calls: MOV, MOVZX, MOVSX in 64-bit mode (Intel SDM
 * volume 2, chapter 2 for the encoding). An instruction is decoded as a whole first; one that is
 * not known, or whose operand is not where the fault was, changes nothing.
 */
#include <string.h>
#include <ucontext.h>

#include "platform/fault.h"

#if defined(__x86_64__)

bool mmio_supported(void)
{
	return true;
}

struct insn {
	const uint8_t *at;		/* the next byte */
	greg_t *regs;
	uint8_t rex;
	bool word;			/* 66: operands of 16 bits */
	unsigned int reg;		/* the register operand, or the opcode's extension */
	uint64_t addr;			/* of the memory operand */
	bool rip_relative;		/* @addr is to be added to the end of the instruction */
};

enum { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };

struct access {
	bool store, sign;
	unsigned int bytes;		/* in memory */
	unsigned int reg_bytes;		/* what a load writes to its register */
	bool constant;			/* what a store stores: @value, else a register */
	uint64_t value;
};

/* by the number in the encoding */
static greg_t *reg_at(const struct insn *in, unsigned int nr)
{
	static const int order[16] = {
		REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
		REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
	};

	return &in->regs[order[nr]];
}

static uint64_t extended(uint64_t v, unsigned int bytes, bool sign)
{
	unsigned int shift = 64 - 8 * bytes;

	return sign ? (uint64_t)((int64_t)(v << shift) >> shift) : v << shift >> shift;
}

static uint64_t constant(struct insn *in, unsigned int bytes)
{
	uint64_t v = 0;

	memcpy(&v, in->at, bytes);
	in->at += bytes;
	return extended(v, bytes, true);
}

/* false: not a prefix that leaves a move what it is */
static bool prefixes(struct insn *in)
{
	for (;; in->at++) {
		switch (*in->at) {
		case 0x66:
			in->word = true;
			continue;
		case 0x26: case 0x2e: case 0x36: case 0x3e:	/* segments that begin at 0 */
			continue;
		case 0x64: case 0x65: case 0x67: case 0xf0: case 0xf2: case 0xf3:
			return false;
		}
		break;
	}
	if ((*in->at & 0xf0) == 0x40)
		in->rex = *in->at++;
	return true;
}

static uint64_t scaled_index(struct insn *in, unsigned int mod)
{
	uint8_t sib = *in->at++;
	unsigned int index = (sib >> 3 & 7) | (in->rex & REX_X ? 8 : 0);
	unsigned int base = (sib & 7) | (in->rex & REX_B ? 8 : 0);
	uint64_t addr = index == 4 ? 0 : (uint64_t)*reg_at(in, index) << (sib >> 6);

	return addr + ((sib & 7) == 5 && !mod ? constant(in, 4) : (uint64_t)*reg_at(in, base));
}

/* false: both operands are registers */
static bool operands(struct insn *in)
{
	uint8_t modrm = *in->at++;
	unsigned int mod = modrm >> 6, rm = modrm & 7;

	in->reg = (modrm >> 3 & 7) | (in->rex & REX_R ? 8 : 0);
	if (mod == 3)
		return false;
	if (rm == 4) {
		in->addr = scaled_index(in, mod);
	} else if (rm == 5 && !mod) {
		in->rip_relative = true;
		in->addr = constant(in, 4);
	} else {
		in->addr = (uint64_t)*reg_at(in, rm | (in->rex & REX_B ? 8 : 0));
	}
	if (mod)
		in->addr += constant(in, mod == 1 ? 1 : 4);
	return true;
}

static unsigned int operand_bytes(const struct insn *in)
{
	return in->rex & REX_W ? 8 : in->word ? 2 : 4;
}

static bool two_byte_opcode(struct insn *in, struct access *a)
{
	uint8_t op = *in->at++;

	if (op != 0xb6 && op != 0xb7 && op != 0xbe && op != 0xbf)
		return false;
	*a = (struct access){ .bytes = op & 1 ? 2 : 1, .reg_bytes = operand_bytes(in),
			      .sign = op >= 0xbe };
	return operands(in);
}

static bool one_byte_opcode(struct insn *in, uint8_t op, struct access *a)
{
	unsigned int bytes = op & 1 ? operand_bytes(in) : 1;

	switch (op) {
	case 0x88: case 0x89:		/* MOV r/m, r */
		*a = (struct access){ .store = true, .bytes = bytes };
		return operands(in);
	case 0x8a: case 0x8b:		/* MOV r, r/m */
		*a = (struct access){ .bytes = bytes, .reg_bytes = bytes };
		return operands(in);
	case 0xc6: case 0xc7:		/* MOV r/m, constant */
		if (!operands(in) || in->reg & 7)
			return false;
		*a = (struct access){ .store = true, .bytes = bytes, .constant = true };
		a->value = constant(in, bytes == 8 ? 4 : bytes);
		return true;
	case 0x63:			/* MOVSXD */
		*a = (struct access){ .bytes = 4, .reg_bytes = operand_bytes(in), .sign = true };
		return in->rex & REX_W && operands(in);
	default:
		return false;
	}
}

static bool decode(struct insn *in, struct access *a)
{
	uint8_t op;

	if (!prefixes(in))
		return false;
	op = *in->at++;
	if (!(op == 0x0f ? two_byte_opcode(in, a) : one_byte_opcode(in, op, a)))
		return false;
	if (in->rip_relative)
		in->addr += (uintptr_t)in->at;
	return true;
}

/* the registers of one byte AH, CH, DH, BH are numbers 4 to 7 where there is no REX */
static bool is_high_byte(const struct insn *in, unsigned int bytes)
{
	return bytes == 1 && !in->rex && in->reg >= 4 && in->reg < 8;
}

static uint64_t get_reg(const struct insn *in, unsigned int bytes)
{
	if (is_high_byte(in, bytes))
		return (uint64_t)*reg_at(in, in->reg - 4) >> 8 & 0xff;
	return extended((uint64_t)*reg_at(in, in->reg), bytes, false);
}

static void set_reg(const struct insn *in, unsigned int bytes, uint64_t v)
{
	uint64_t mask = bytes == 1 ? 0xff : bytes == 2 ? 0xffff : UINT64_MAX;
	greg_t *reg = reg_at(in, in->reg);

	if (is_high_byte(in, bytes)) {
		reg = reg_at(in, in->reg - 4);
		mask <<= 8;
		v <<= 8;
	}
	if (bytes == 4)
		v = extended(v, 4, false);
	*reg = (greg_t)(((uint64_t)*reg & ~mask) | (v & mask));
}

bool mmio_emulate(const struct vmplat_fault *f, uintptr_t first, uintptr_t last,
		  const struct vmplat_mmio_ops *ops, void *data)
{
	greg_t *regs = ((ucontext_t *)f->context)->uc_mcontext.gregs;
	struct insn in = { .at = (const uint8_t *)f->pc, .regs = regs };
	struct access a;
	uint64_t v;

	/* a fault of the fetch cannot be decoded; an operand that begins outside is not ours */
	if (f->access == VMPLAT_FAULT_EXECUTE || !decode(&in, &a) || in.addr != f->addr ||
	    last - f->addr < a.bytes - 1)
		return false;
	if (a.store) {
		v = a.constant ? extended(a.value, a.bytes, false) : get_reg(&in, a.bytes);
		ops->write(data, f->addr - first, a.bytes, v);
	} else {
		v = ops->read(data, f->addr - first, a.bytes);
		set_reg(&in, a.reg_bytes, extended(v, a.bytes, a.sign));
	}
	regs[REG_RIP] = (greg_t)(uintptr_t)in.at;
	return true;
}

#else

bool mmio_supported(void)
{
	return false;
}

bool mmio_emulate(const struct vmplat_fault *f, uintptr_t first, uintptr_t last,
		  const struct vmplat_mmio_ops *ops, void *data)
{
	return false;
}

#endif
