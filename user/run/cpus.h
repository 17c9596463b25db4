/* SPDX-License-Identifier: GPL-2.0-only */
/* What vCPUs are doing, as the runner tells it and people read it. */
#ifndef VMPLAT_RUN_CPUS_H
#define VMPLAT_RUN_CPUS_H

#include <stdio.h>

struct json_object;
struct vcpu;

/**
 * arch_vcpu_look - what a vCPU that stands still, or is the caller's, is doing
 *
 * "index", "activity" ("runs", "halted", "waits for INIT", "waits for SIPI"), "mode" ("kernel",
 * "user"), "interrupts" (would it take any), "exit" (KVM's number of the latest),
 * "registers" (hexadecimal, with 0x), "code" (16 bytes at rip, if they are mapped),
 * "injecting" (the vector on its way in), "nmi_pending", "interrupt_shadow", "apic":
 * "enabled", "priority" (TPR), "in_service" and "waiting" (vectors of ISR and IRR), "timer":
 * "mode", "vector", "masked", and "initial" and "left" (counts), or "due_ns" (negative: it should
 * have gone off; absent: it is not set). What KVM does not tell is left out.
 */
struct json_object *arch_vcpu_look(struct vcpu *vcpu);

/** cpus_print - one of these, a paragraph; lines end with @eol */
void cpus_print(FILE *f, struct json_object *cpu, const char *eol);

#endif
