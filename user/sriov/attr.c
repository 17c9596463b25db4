// SPDX-License-Identifier: GPL-2.0-only
/* What can be set of a VF. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <vmplat_error.h>

#include "sriov/sriov.h"

int sriov_fail(int err, const char *fmt, ...)
{
	struct vmplat_error error;
	va_list ap;

	va_start(ap, fmt);
	vmplat_error_format(&error, err, fmt, ap);
	va_end(ap);
	vmplat_error_put(&error);
	return err;
}

/* ---- the table -------------------------------------------------------------- */

struct word {
	const char *text;
	uint64_t v;
};

static const struct word switches[] = { { "off", 0 }, { "on", 1 }, { } };
static const struct word links[] = { { "auto", 0 }, { "on", 1 }, { "off", 2 }, { } };
static const struct word protos[] = { { "802.1Q", 0x8100 }, { "802.1ad", 0x88a8 }, { } };

static const struct attr {
	const char *name;
	enum sriov_group group;
	const struct word *words;	/* or a number up to @max */
	uint64_t max;
	const char *what;
} attrs[SRIOV_NR_ATTRS] = {
	[SRIOV_MAC] = { "mac", SRIOV_G_MAC, NULL, 0, "a unicast address such as 02:00:00:00:00:01" },
	[SRIOV_VLAN] = { "vlan", SRIOV_G_VLAN, NULL, 4094, "a number from 0, for none, to 4094" },
	[SRIOV_QOS] = { "qos", SRIOV_G_VLAN, NULL, 7, "a number from 0 to 7" },
	[SRIOV_PROTO] = { "proto", SRIOV_G_VLAN, protos, 0, "802.1Q or 802.1ad" },
	[SRIOV_MIN_RATE] = { "min_rate", SRIOV_G_RATE, NULL, UINT32_MAX, "a number of Mbit/s, 0 for no limit" },
	[SRIOV_MAX_RATE] = { "max_rate", SRIOV_G_RATE, NULL, UINT32_MAX, "a number of Mbit/s, 0 for no limit" },
	[SRIOV_SPOOFCHK] = { "spoofchk", SRIOV_G_SPOOFCHK, switches, 0, "on or off" },
	[SRIOV_TRUST] = { "trust", SRIOV_G_TRUST, switches, 0, "on or off" },
	[SRIOV_LINK] = { "link", SRIOV_G_LINK, links, 0, "auto, on or off" },
	[SRIOV_MSIX] = { "msix", SRIOV_G_MSIX, NULL, 2048, "a number of vectors from 1 to 2048" },
};

const char *sriov_attr_name(enum sriov_attr a)
{
	return attrs[a].name;
}

enum sriov_attr sriov_attr_find(const char *name)
{
	enum sriov_attr a;

	for (a = 0; a < SRIOV_NR_ATTRS && strcmp(attrs[a].name, name); a++)
		;
	return a;
}

enum sriov_group sriov_attr_group(enum sriov_attr a)
{
	return attrs[a].group;
}

bool sriov_attr_is_net(enum sriov_attr a)
{
	return a != SRIOV_MSIX;
}

uint32_t sriov_group_mask(enum sriov_group g)
{
	uint32_t mask = 0;

	for (enum sriov_attr a = 0; a < SRIOV_NR_ATTRS; a++)
		if (attrs[a].group == g)
			mask |= 1u << a;
	return mask;
}

/* ---- text ---------------------------------------------------------------------- */

static bool parse_mac(const char *text, uint64_t *v)
{
	*v = 0;
	for (int i = 0; i < 6; i++, text += 3) {
		if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]) ||
		    text[2] != (i < 5 ? ':' : '\0'))
			return false;
		*v = *v << 8 | strtoul((char[]){ text[0], text[1], '\0' }, NULL, 16);
	}
	/* the kernel, too, refuses groups; zero would mean that there is none */
	return *v && !(*v >> 40 & 1);
}

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *v)
{
	char *end;

	errno = 0;
	*v = isdigit((unsigned char)*text) ? strtoull(text, &end, 10) : 0;
	return isdigit((unsigned char)*text) && !*end && !errno && *v >= min && *v <= max;
}

static bool parse_word(const struct word *words, const char *text, uint64_t *v)
{
	for (; words->text; words++)
		if (!strcasecmp(words->text, text)) {
			*v = words->v;
			return true;
		}
	return false;
}

const char *sriov_attr_parse(enum sriov_attr a, const char *text, uint64_t *v)
{
	bool good;

	if (a == SRIOV_MAC)
		good = parse_mac(text, v);
	else if (attrs[a].words)
		good = parse_word(attrs[a].words, text, v);
	else
		good = parse_number(text, a == SRIOV_MSIX, attrs[a].max, v);
	return good ? NULL : attrs[a].what;
}

const char *sriov_attr_text(enum sriov_attr a, uint64_t v, char buf[SRIOV_TEXT])
{
	for (const struct word *w = attrs[a].words; w && w->text; w++)
		if (w->v == v) {
			snprintf(buf, SRIOV_TEXT, "%s", w->text);
			return buf;
		}
	if (a == SRIOV_MAC)
		snprintf(buf, SRIOV_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", (unsigned int)(v >> 40 & 0xff),
			 (unsigned int)(v >> 32 & 0xff), (unsigned int)(v >> 24 & 0xff),
			 (unsigned int)(v >> 16 & 0xff), (unsigned int)(v >> 8 & 0xff),
			 (unsigned int)(v & 0xff));
	else
		snprintf(buf, SRIOV_TEXT, "%" PRIu64, v);
	return buf;
}

struct json_object *sriov_attr_json(enum sriov_attr a, uint64_t v)
{
	char buf[SRIOV_TEXT];

	if (attrs[a].words == switches)
		return json_object_new_boolean(v);
	if (a == SRIOV_MAC || attrs[a].words)
		return json_object_new_string(sriov_attr_text(a, v, buf));
	return json_object_new_uint64(v);
}

/* ---- some of them together ------------------------------------------------------- */

static bool has(const struct sriov_values *v, enum sriov_attr a)
{
	return v->has & 1u << a;
}

const char *sriov_values_check(const struct sriov_values *v)
{
	bool vlan = has(v, SRIOV_VLAN) && v->v[SRIOV_VLAN];

	/* the kernel reads a QoS without a VLAN as none at all, and takes 802.1ad only with one */
	if (has(v, SRIOV_QOS) && v->v[SRIOV_QOS] && !vlan)
		return "qos needs a vlan that is not 0";
	if (has(v, SRIOV_PROTO) && v->v[SRIOV_PROTO] != 0x8100 && !vlan)
		return "proto 802.1ad needs a vlan that is not 0";
	if (has(v, SRIOV_MIN_RATE) && has(v, SRIOV_MAX_RATE) && v->v[SRIOV_MAX_RATE] &&
	    v->v[SRIOV_MIN_RATE] > v->v[SRIOV_MAX_RATE])
		return "min_rate is more than max_rate";
	return NULL;
}

uint32_t sriov_values_differ(const struct sriov_values *now, const struct sriov_values *want)
{
	uint32_t differ = 0;

	for (enum sriov_attr a = 0; a < SRIOV_NR_ATTRS; a++)
		if (has(want, a) && (!has(now, a) || now->v[a] != want->v[a]))
			differ |= 1u << a;
	return differ;
}

void sriov_pf_free(struct sriov_pf *pf)
{
	free(pf->vfs);
	*pf = (struct sriov_pf) { };
}
