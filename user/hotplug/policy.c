// SPDX-License-Identifier: GPL-2.0-only
/*
 * The policy: a rule a line, the first that fits an object decides.
 *
 *	CLASS [KEY=VALUE]... => ACTION [ARGUMENT] [OPTION]
 *
 * A file with an error has no rules: half a policy may be the wrong half.
 */
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plug.h"

#define POLICY_BYTES_MAX	(1u << 20)
#define WORDS_MAX		64

#define CPU	(1u << PLUG_CPU)
#define MEMORY	(1u << PLUG_MEMORY)
#define PCI	(1u << PLUG_PCI)
#define NET	(1u << PLUG_NETDEV)

struct line {
	struct plug_policy *policy;
	struct plug_rule *rule;
	unsigned int number;
	char *words[WORDS_MAX];
	size_t nr;
};

/* -EINVAL, with "line N: ..." among the errors */
__attribute__((format(printf, 2, 3)))
static int wrong(struct line *l, const char *fmt, ...)
{
	struct plug_policy *p = l->policy;
	char **more, *text, *whole;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return plug_fail(-ENOMEM, "out of memory");
	n = asprintf(&whole, "line %u: %s", l->number, text);
	free(text);
	if (n < 0)
		return plug_fail(-ENOMEM, "out of memory");
	more = realloc(p->errors, (p->nr_errors + 1) * sizeof(*more));
	if (!more) {
		free(whole);
		return plug_fail(-ENOMEM, "out of memory");
	}
	p->errors = more;
	p->errors[p->nr_errors++] = whole;
	return -EINVAL;
}

/* ---- what a rule looks at -------------------------------------------------------- */

static int add_span(struct plug_match *m, uint64_t first, uint64_t last)
{
	struct plug_span *more = realloc(m->spans, (m->nr_spans + 1) * sizeof(*more));

	if (!more)
		return plug_fail(-ENOMEM, "out of memory");
	m->spans = more;
	m->spans[m->nr_spans++] = (struct plug_span) { first, last };
	return 0;
}

static bool number(const char **s, uint64_t *v)
{
	char *end;

	if (!isdigit((unsigned char)**s))
		return false;
	errno = 0;
	*v = strtoull(*s, &end, !strncasecmp(*s, "0x", 2) ? 16 : 10);
	*s = end;
	return !errno;
}

/* "0-3,7" */
static int parse_spans(struct line *l, struct plug_match *m, const char *key, const char *value)
{
	const char *s = value;
	uint64_t first, last;
	int err;

	do {
		bool good = number(&s, &first);

		last = first;
		if (good && *s == '-') {
			s++;
			good = number(&s, &last);
		}
		if (!good || (*s && *s != ','))
			return wrong(l, "%s=%s is no list of numbers such as 0-3,7", key, value);
		if (last < first)
			return wrong(l, "%s=%s: %" PRIu64 " comes after %" PRIu64, key, value,
				     first, last);
		err = add_span(m, first, last);
		if (err)
			return err;
	} while (*s++ == ',');
	return 0;
}

static bool half_id(const char *s, size_t len, unsigned int *v)
{
	*v = PLUG_ID_ANY;
	if (len == 1 && *s == '*')
		return true;
	if (len != 4)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isxdigit((unsigned char)s[i]))
			return false;
	*v = (unsigned int)strtoul(s, NULL, 16);
	return true;
}

/* "8086:10ed", "8086:*" */
static int parse_ids(struct line *l, struct plug_match *m, const char *key, const char *value)
{
	const char *colon = strchr(value, ':');

	if (!colon || !half_id(value, (size_t)(colon - value), &m->vendor) ||
	    !half_id(colon + 1, strlen(colon + 1), &m->device))
		return wrong(l, "%s=%s is not VENDOR:DEVICE, each of 4 hexadecimal digits or *",
			     key, value);
	return 0;
}

static int parse_text(struct line *l, struct plug_match *m, const char *key, const char *value)
{
	if (strlen(value) > PLUG_WORD_MAX)
		return wrong(l, "%s= is longer than %d bytes", key, PLUG_WORD_MAX);
	strcpy(m->text, value);
	return 0;
}

/* "02", "0200", "020000": class, subclass, interface */
static int parse_class(struct line *l, struct plug_match *m, const char *key, const char *value)
{
	size_t len = strlen(value);

	if ((len != 2 && len != 4 && len != 6) ||
	    strspn(value, "0123456789abcdefABCDEF") != len)
		return wrong(l, "class=%s is not 2, 4 or 6 hexadecimal digits, such as 0200 for Ethernet",
			     value);
	for (size_t i = 0; i <= len; i++)
		m->text[i] = (char)tolower((unsigned char)value[i]);
	return 0;
}

/* "0000:03:00.*", "03:00.0" */
static int parse_address(struct line *l, struct plug_match *m, const char *key, const char *value)
{
	const char *colon = strchr(value, ':');
	bool domain = colon && strchr(colon + 1, ':');

	if (!colon || !strchr(colon, '.') || strlen(value) > PLUG_WORD_MAX - 5 ||
	    strspn(value, "0123456789abcdefABCDEF:.*?[]-") != strlen(value))
		return wrong(l, "address=%s is not [DOMAIN:]BUS:DEVICE.FUNCTION, such as 0000:03:00.0 or 03:00.*",
			     value);
	snprintf(m->text, sizeof(m->text), "%s%s", domain ? "" : "0000:", value);
	for (char *c = m->text; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return 0;
}

static const struct {
	const char *name;
	unsigned int classes;
	int (*parse)(struct line *l, struct plug_match *m, const char *key, const char *value);
} keys[] = {
	[PLUG_KEY_NUMBER] = { "number", CPU, parse_spans },
	[PLUG_KEY_BLOCK] = { "block", MEMORY, parse_spans },
	[PLUG_KEY_NODE] = { "node", CPU | MEMORY | PCI, parse_spans },
	[PLUG_KEY_GROUP] = { "group", PCI, parse_spans },
	[PLUG_KEY_RANGE] = { "range", MEMORY, parse_spans },
	[PLUG_KEY_CLASS] = { "class", PCI, parse_class },
	[PLUG_KEY_ID] = { "id", PCI, parse_ids },
	[PLUG_KEY_SUBSYSTEM] = { "subsystem", PCI, parse_ids },
	[PLUG_KEY_ADDRESS] = { "address", PCI, parse_address },
	[PLUG_KEY_SLOT] = { "slot", PCI, parse_text },
	[PLUG_KEY_NAME] = { "name", NET, parse_text },
};
#define NR_KEYS (sizeof(keys) / sizeof(keys[0]))

static const char *keys_of(enum plug_class class_, char buf[128])
{
	*buf = '\0';
	for (size_t k = 0; k < NR_KEYS; k++)
		if (keys[k].classes & 1u << class_)
			sprintf(buf + strlen(buf), "%s%s", *buf ? ", " : "", keys[k].name);
	return buf;
}

static int parse_match(struct line *l, char *word)
{
	char *value = strchr(word, '='), all[128];
	struct plug_rule *r = l->rule;
	struct plug_match *more;
	size_t k;

	if (!value)
		return wrong(l, "'%s' is not KEY=VALUE, and there is no => before it", word);
	*value++ = '\0';
	for (k = 0; k < NR_KEYS && strcmp(keys[k].name, word); k++)
		;
	if (k == NR_KEYS || !(keys[k].classes & 1u << r->class_))
		return wrong(l, "a rule for %s has no key '%s'; it may have %s",
			     plug_class_name(r->class_), word, keys_of(r->class_, all));
	if (!*value)
		return wrong(l, "%s= is empty", word);
	for (size_t i = 0; i < r->nr_matches; i++)
		if (r->matches[i].key == k)
			return wrong(l, "%s= is there twice", word);
	more = realloc(r->matches, (r->nr_matches + 1) * sizeof(*more));
	if (!more)
		return plug_fail(-ENOMEM, "out of memory");
	r->matches = more;
	more[r->nr_matches] = (struct plug_match) { .key = (enum plug_key)k };
	return keys[k].parse(l, &more[r->nr_matches++], word, value);
}

/* ---- what a rule does ---------------------------------------------------------------- */

static const struct verb {
	const char *name;
	unsigned int classes;
	enum plug_verb verb;
	const char *arg;	/* what has to follow */
	const char *option;	/* what may follow */
} verbs[] = {
	{ "leave", CPU | MEMORY | PCI | NET, PLUG_LEAVE },
	{ "online", CPU | MEMORY, PLUG_ONLINE },
	{ "offline", CPU | MEMORY, PLUG_OFFLINE },
	{ "online_kernel", MEMORY, PLUG_ONLINE_KERNEL, NULL, "rezone" },
	{ "online_movable", MEMORY, PLUG_ONLINE_MOVABLE, NULL, "rezone" },
	{ "driver", PCI, PLUG_DRIVER, "the name of a driver", "rebind" },
	{ "no-driver", PCI, PLUG_NO_DRIVER },
	{ "vm", NET, PLUG_TO_VM, "the name of a VM" },
};
#define NR_VERBS (sizeof(verbs) / sizeof(verbs[0]))

static int no_such_verb(struct line *l, const char *word)
{
	enum plug_class class_ = l->rule->class_;
	char all[128] = "";

	if (!strcmp(word, "vm") && class_ == PLUG_PCI)
		return wrong(l, "a PCI device cannot be handed to a VM: the runner plugs disks, network devices and memory, none of the host's PCI devices; 'driver vfio-pci' makes it ready for another VMM");
	if (!strcmp(word, "vm"))
		return wrong(l, "%s of the host cannot be handed to a running VM; 'vmplat vm device add VM memory size=SIZE' plugs memory into one",
			     class_ == PLUG_CPU ? "a CPU" : "a memory block");
	for (size_t i = 0; i < NR_VERBS; i++)
		if (verbs[i].classes & 1u << class_)
			sprintf(all + strlen(all), "%s%s", *all ? ", " : "", verbs[i].name);
	return wrong(l, "'%s' is nothing to do with %s; there is %s", word,
		     plug_class_name(class_), all);
}

/* names of drivers and VMs become part of paths */
static int parse_arg(struct line *l, const char *verb, const char *word)
{
	size_t len = strlen(word);

	if (len > PLUG_WORD_MAX)
		return wrong(l, "%s: '%.20s...' is longer than %d bytes", verb, word, PLUG_WORD_MAX);
	if (strchr(word, '/') || *word == '.')
		return wrong(l, "%s: '%s' is no name", verb, word);
	strcpy(l->rule->arg, word);
	return 0;
}

static int parse_action(struct line *l, size_t i)
{
	const struct verb *v = verbs;
	int err;

	if (i == l->nr)
		return wrong(l, "nothing is said after =>");
	while (v < verbs + NR_VERBS && (strcmp(v->name, l->words[i]) ||
					!(v->classes & 1u << l->rule->class_)))
		v++;
	if (v == verbs + NR_VERBS)
		return no_such_verb(l, l->words[i]);
	l->rule->verb = v->verb;
	i++;
	if (v->arg && i == l->nr)
		return wrong(l, "%s needs %s", v->name, v->arg);
	if (v->arg) {
		err = parse_arg(l, v->name, l->words[i++]);
		if (err)
			return err;
	}
	if (v->option && i < l->nr && !strcmp(l->words[i], v->option)) {
		l->rule->take = true;
		i++;
	}
	if (i == l->nr)
		return 0;
	return wrong(l, v->option ? "'%s' is not understood after %s; there may be %s" :
		     "'%s' is not understood after %s", l->words[i], v->name, v->option);
}

/* ---- lines ------------------------------------------------------------------------------ */

/* An earlier rule without conditions leaves nothing to a later one. */
static int check_reached(struct line *l)
{
	const struct plug_policy *p = l->policy;

	for (const struct plug_rule *r = p->rules; r < l->rule; r++)
		if (r->class_ == l->rule->class_ && !r->nr_matches)
			return wrong(l, "this rule never decides: the one of line %u decides on all of %s",
				     r->line, plug_class_name(r->class_));
	return 0;
}

static int parse_rule(struct line *l)
{
	int class_ = plug_class_of(l->words[0]), err;
	size_t i;

	if (class_ < 0)
		return wrong(l, "'%s' is none of cpu, memory, pci, net", l->words[0]);
	l->rule->line = l->number;
	l->rule->class_ = (enum plug_class)class_;
	for (i = 1; i < l->nr && strcmp(l->words[i], "=>"); i++) {
		err = parse_match(l, l->words[i]);
		if (err)
			return err;
	}
	if (i == l->nr)
		return wrong(l, "there is no => with what to do after it");
	err = parse_action(l, i + 1);
	return err ? err : check_reached(l);
}

static int split(struct line *l, char *text)
{
	char *save = NULL;

	l->nr = 0;
	for (const char *c = text; *c; c++)
		if (iscntrl((unsigned char)*c) && *c != '\t' && *c != '\r')
			return wrong(l, "there is a control character (byte %#x)", (unsigned char)*c);
	for (char *w = strtok_r(text, " \t\r", &save); w; w = strtok_r(NULL, " \t\r", &save)) {
		if (*w == '#')
			break;
		if (l->nr == WORDS_MAX)
			return wrong(l, "more than %d words", WORDS_MAX);
		l->words[l->nr++] = w;
	}
	return 0;
}

static void rule_free(struct plug_rule *r)
{
	for (size_t i = 0; i < r->nr_matches; i++)
		free(r->matches[i].spans);
	free(r->matches);
}

static int parse_line(struct line *l, char *text)
{
	struct plug_policy *p = l->policy;
	struct plug_rule *more;
	int err = split(l, text);

	if (err || !l->nr)
		return err;
	more = realloc(p->rules, (p->nr_rules + 1) * sizeof(*more));
	if (!more)
		return plug_fail(-ENOMEM, "out of memory");
	p->rules = more;
	l->rule = &more[p->nr_rules];
	*l->rule = (struct plug_rule) { 0 };
	err = parse_rule(l);
	if (err)
		rule_free(l->rule);
	else
		p->nr_rules++;
	return err;
}

static void forget_rules(struct plug_policy *p)
{
	for (size_t i = 0; i < p->nr_rules; i++)
		rule_free(&p->rules[i]);
	free(p->rules);
	p->rules = NULL;
	p->nr_rules = 0;
}

int plug_policy_parse(struct plug_policy *p, const char *text, size_t bytes)
{
	struct line l = { .policy = p };
	char *copy, *end, *next;
	int err = 0;

	*p = (struct plug_policy) { 0 };
	copy = malloc(bytes + 1);
	if (!copy)
		return plug_fail(-ENOMEM, "out of memory");
	memcpy(copy, text, bytes);
	copy[bytes] = '\0';
	for (char *s = copy; s < copy + bytes && err != -ENOMEM; s = next) {
		end = memchr(s, '\n', (size_t)(copy + bytes - s));
		next = end ? end + 1 : copy + bytes;
		if (end)
			*end = '\0';
		l.number++;
		if (strlen(s) < (size_t)((end ? end : copy + bytes) - s))
			err = wrong(&l, "there is a zero byte");
		else
			err = parse_line(&l, s);
	}
	free(copy);
	if (err == -ENOMEM || p->nr_errors) {
		forget_rules(p);
		return err == -ENOMEM ? err : plug_fail(-EINVAL, "%s", p->errors[0]);
	}
	return 0;
}

int plug_policy_load(struct plug_policy *p, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), err = 0;
	char *text = NULL;
	size_t len = 0;
	struct stat sb;
	ssize_t n = 1;

	*p = (struct plug_policy) { 0 };
	if (fd < 0 || fstat(fd, &sb)) {
		err = plug_fail(-errno, "cannot read the policy %s: %s", path, strerror(errno));
	} else if (!S_ISREG(sb.st_mode) || sb.st_size > POLICY_BYTES_MAX) {
		err = plug_fail(-EINVAL, "the policy %s is no regular file of at most 1 MiB", path);
	} else {
		text = malloc(POLICY_BYTES_MAX);
		if (!text)
			err = plug_fail(-ENOMEM, "out of memory");
	}
	while (!err && n > 0 && len < POLICY_BYTES_MAX) {
		n = read(fd, text + len, POLICY_BYTES_MAX - len);
		if (n < 0)
			err = plug_fail(-errno, "cannot read the policy %s: %s", path, strerror(errno));
		else
			len += (size_t)n;
	}
	if (!err)
		err = plug_policy_parse(p, text, len);
	free(text);
	if (fd >= 0)
		close(fd);
	return err;
}

void plug_policy_free(struct plug_policy *p)
{
	forget_rules(p);
	for (size_t i = 0; i < p->nr_errors; i++)
		free(p->errors[i]);
	free(p->errors);
	*p = (struct plug_policy) { 0 };
}

/* ---- does it fit? ----------------------------------------------------------------------------- */

static bool in_spans(const struct plug_match *m, uint64_t v)
{
	for (size_t i = 0; i < m->nr_spans; i++)
		if (v >= m->spans[i].first && v <= m->spans[i].last)
			return true;
	return false;
}

/* the whole block, not a part of it */
static bool block_in_spans(const struct plug_match *m, const struct plug_object *o)
{
	uint64_t last = o->memory.start + o->memory.bytes - 1;

	for (size_t i = 0; i < m->nr_spans; i++)
		if (o->memory.start >= m->spans[i].first && last <= m->spans[i].last)
			return true;
	return false;
}

static bool is_id(const struct plug_match *m, unsigned int vendor, unsigned int device)
{
	return (m->vendor == PLUG_ID_ANY || m->vendor == vendor) &&
	       (m->device == PLUG_ID_ANY || m->device == device);
}

static bool match_fits(const struct plug_match *m, const struct plug_object *o)
{
	char text[16];

	switch (m->key) {
	case PLUG_KEY_NUMBER:
		return in_spans(m, o->cpu.number);
	case PLUG_KEY_BLOCK:
		return in_spans(m, o->memory.number);
	case PLUG_KEY_NODE:
		return o->node >= 0 && in_spans(m, (uint64_t)o->node);
	case PLUG_KEY_GROUP:
		return o->pci.group >= 0 && in_spans(m, (uint64_t)o->pci.group);
	case PLUG_KEY_RANGE:
		return block_in_spans(m, o);
	case PLUG_KEY_CLASS:
		snprintf(text, sizeof(text), "%06x", o->pci.class_code);
		return !strncmp(text, m->text, strlen(m->text));
	case PLUG_KEY_ID:
		return is_id(m, o->pci.vendor, o->pci.device);
	case PLUG_KEY_SUBSYSTEM:
		return is_id(m, o->pci.subvendor, o->pci.subdevice);
	case PLUG_KEY_SLOT:
		return *o->pci.slot && !fnmatch(m->text, o->pci.slot, 0);
	default:
		return !fnmatch(m->text, o->name, 0);
	}
}

bool plug_rule_fits(const struct plug_rule *r, const struct plug_object *o)
{
	if (r->class_ != o->class_)
		return false;
	for (size_t i = 0; i < r->nr_matches; i++)
		if (!match_fits(&r->matches[i], o))
			return false;
	return true;
}
