// SPDX-License-Identifier: GPL-2.0-only
#include "cli.h"

int cmd_info(int argc, char **argv)
{
	return cli_fail("not there yet");
}
