/* SPDX-License-Identifier: GPL-2.0-only */
/* The board's own devices: where they are. */
#ifndef VMPLAT_RUN_BOARD_H
#define VMPLAT_RUN_BOARD_H

#include <stddef.h>
#include <stdint.h>

struct vm;

#define SERIAL_PORT	0x3f8
#define SERIAL_IRQ	4
#define RTC_PORT	0x70
#define RTC_IRQ		8
#define RESET_PORT	0xcf9
#define RESET_VALUE	0x06
#define ACPI_SCI	9
#define ACPI_PM1_EVT	0x600
#define ACPI_PM1_CNT	0x604
#define ACPI_PM_TMR	0x608
#define ACPI_S5_TYPE	5

int power_init(struct vm *vm);
/* press the power button; the guest decides what happens */
void power_button(struct vm *vm);
int rtc_init(struct vm *vm);
int i8042_init(struct vm *vm);

#endif
