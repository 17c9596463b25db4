// SPDX-License-Identifier: LGPL-2.1-or-later
#include "manifest.h"

#include <ctype.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec.h"
#include "io.h"

#define FORMAT		"vmplat-snapshot"
#define TAIL_KEY	"\"root\":\""
#define TAIL_BYTES	(8 + STORE_ID_CHARS + 3)	/* "root":"..."}\n */
#define MAX_DEPTH	64

/* ---- names ------------------------------------------------------------- */

void store_id_to_hex(const uint8_t id[STORE_ID_BYTES],
		     char hex[STORE_ID_CHARS + 1])
{
	for (int i = 0; i < STORE_ID_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", id[i]);
}

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

static int id_parse(uint8_t id[STORE_ID_BYTES], const char *hex, size_t len)
{
	if (len != STORE_ID_CHARS)
		return -EINVAL;
	for (int i = 0; i < STORE_ID_BYTES; i++) {
		int hi = nibble(hex[2 * i]), lo = nibble(hex[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return -EINVAL;
		id[i] = hi << 4 | lo;
	}
	return 0;
}

int store_id_from_hex(uint8_t id[STORE_ID_BYTES], const char *hex)
{
	return id_parse(id, hex, strlen(hex));
}

bool store_name_ok(const char *name)
{
	uint8_t id[STORE_ID_BYTES];
	size_t len = strlen(name);

	if (!len || len > STORE_NAME_CHARS || !isalnum((unsigned char)*name))
		return false;
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
			return false;
	return store_id_from_hex(id, name) < 0;
}

int image_name_ok(const char *name)
{
	size_t len = strlen(name);

	if (!len || len > STORE_IMAGE_NAME_CHARS || *name < 'a' || *name > 'z')
		return 0;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

void data_name(char *buf, const char *image)
{
	snprintf(buf, FILE_NAME_CHARS, "%s.data", image);
}

void index_name(char *buf, const char *image)
{
	snprintf(buf, FILE_NAME_CHARS, "%s.index", image);
}

/* ---- parsing ----------------------------------------------------------- */

void manifest_free(struct manifest *m)
{
	free((void *)m->info.images);
	free((void *)m->info.vm);
	free(m->files);
	free(m->ancestors);
	memset(m, 0, sizeof(*m));
}

/* One parse: the first thing that is wrong sticks in .err. */
struct parse {
	const char *what;
	int err;
};

static json_object *get(struct parse *p, json_object *obj, const char *key,
			enum json_type type)
{
	json_object *v = NULL;

	if (p->err)
		return NULL;
	if (json_object_object_get_ex(obj, key, &v) &&
	    json_object_is_type(v, type))
		return v;
	p->err = store_fail(EBADMSG, "%s: %s lacks \"%s\" (%s)", p->what,
			    MANIFEST_NAME, key, json_type_to_name(type));
	return NULL;
}

static uint64_t get_u64(struct parse *p, json_object *obj, const char *key)
{
	json_object *v = get(p, obj, key, json_type_int);

	if (v && json_object_get_int64(v) < 0)
		p->err = store_fail(EBADMSG, "%s: %s: \"%s\" is negative",
				    p->what, MANIFEST_NAME, key);
	return v && !p->err ? json_object_get_int64(v) : 0;
}

static const char *get_str(struct parse *p, json_object *obj, const char *key)
{
	json_object *v = get(p, obj, key, json_type_string);

	/* a NUL inside would hide what follows it */
	if (v && strlen(json_object_get_string(v)) !=
	    (size_t)json_object_get_string_len(v)) {
		p->err = store_fail(EBADMSG, "%s: %s: \"%s\" has a NUL",
				    p->what, MANIFEST_NAME, key);
		v = NULL;
	}
	return v ? json_object_get_string(v) : "";
}

static void get_hash(struct parse *p, json_object *obj, const char *key,
		     uint8_t hash[STORE_ID_BYTES])
{
	const char *s = get_str(p, obj, key);

	if (!p->err && store_id_from_hex(hash, s))
		p->err = store_fail(EBADMSG, "%s: %s: \"%s\" is not 32 "
				    "hexadecimal digits", p->what,
				    MANIFEST_NAME, key);
}

static void bad(struct parse *p, const char *why)
{
	if (!p->err)
		p->err = store_fail(EBADMSG, "%s: %s: %s", p->what,
				    MANIFEST_NAME, why);
}

static void parse_image(struct parse *p, json_object *obj,
			struct store_image_info *ii, struct manifest_image *f)
{
	const char *name = get_str(p, obj, "name");
	json_object *v;

	if (!p->err && !image_name_ok(name))
		bad(p, "an image has a name that is none");
	snprintf(ii->name, sizeof(ii->name), "%s", name);
	ii->bytes = get_u64(p, obj, "bytes");
	f->data_bytes = get_u64(p, obj, "data_bytes");
	f->index_bytes = get_u64(p, obj, "index_bytes");
	get_hash(p, obj, "index_xxh3", f->index_hash.b);
	ii->stored_bytes = f->data_bytes + f->index_bytes;
	ii->data_pages = get_u64(p, obj, "data_pages");
	ii->zero_pages = get_u64(p, obj, "zero_pages");
	ii->hole_pages = get_u64(p, obj, "hole_pages");
	ii->own_data_pages = get_u64(p, obj, "own_data_pages");
	ii->own_zero_pages = get_u64(p, obj, "own_zero_pages");
	name = get_str(p, obj, "codec");
	if (!p->err && store_codec_parse(&ii->codec, name))
		bad(p, "unknown codec");
	v = get(p, obj, "level", json_type_int);
	ii->level = v ? json_object_get_int(v) : 0;
	v = get(p, obj, "inherits", json_type_boolean);
	ii->inherits = v && json_object_get_boolean(v);
}

static void parse_images(struct parse *p, struct manifest *m, json_object *arr)
{
	size_t nr = arr ? json_object_array_length(arr) : 0;
	struct store_image_info *ii;

	if (nr > STORE_MAX_IMAGES)
		bad(p, "too many images");
	if (p->err)
		return;
	m->info.images = ii = calloc(nr ? nr : 1, sizeof(*ii));
	m->files = calloc(nr ? nr : 1, sizeof(*m->files));
	if (!ii || !m->files) {
		p->err = store_fail(ENOMEM, "out of memory");
		return;
	}
	for (size_t i = 0; i < nr && !p->err; i++) {
		json_object *e = json_object_array_get_idx(arr, i);

		if (!json_object_is_type(e, json_type_object)) {
			bad(p, "an image is not an object");
			return;
		}
		parse_image(p, e, ii + i, m->files + i);
		for (size_t k = 0; k < i; k++)
			if (!strcmp(ii[k].name, ii[i].name))
				bad(p, "two images of one name");
		m->info.stored_bytes += ii[i].stored_bytes;
		m->info.nr_images = i + 1;
	}
}

static void parse_ancestors(struct parse *p, struct manifest *m,
			    json_object *o)
{
	uint64_t nr = get_u64(p, o, "ancestors");

	if (nr >= FMT_MAX_SOURCES)
		bad(p, "too many ancestors");
	get_hash(p, o, "ancestors_xxh3", m->ancestors_hash.b);
	if (p->err || !nr)
		return;
	m->info.nr_ancestors = nr;
	m->info.has_parent = true;
	get_hash(p, o, "parent", m->info.parent);
	if (!p->err && !memcmp(m->info.parent, m->info.id, STORE_ID_BYTES))
		bad(p, "the snapshot is its own parent");
}

static void parse_object(struct parse *p, struct manifest *m, json_object *o)
{
	const char *s = get_str(p, o, "format");
	json_object *v;

	if (!p->err && strcmp(s, FORMAT))
		bad(p, "not a " FORMAT);
	if (get_u64(p, o, "version") != FMT_VERSION && !p->err)
		p->err = store_fail(EPROTONOSUPPORT, "%s: written by a newer "
				    "version of vmplat", p->what);
	get_hash(p, o, "id", m->info.id);
	s = get_str(p, o, "name");
	if (!p->err && !store_name_ok(s))
		bad(p, "the name is none");
	snprintf(m->info.name, sizeof(m->info.name), "%s", s);
	m->info.created_ns = get_u64(p, o, "created_ns");
	m->info.pause_ns = get_u64(p, o, "pause_ns");
	m->info.state_bytes = get_u64(p, o, "state_bytes");
	get_hash(p, o, "state_xxh3", m->state_hash.b);
	parse_ancestors(p, m, o);
	m->info.stored_bytes += m->info.state_bytes +
				m->info.nr_ancestors * sizeof(struct ancestor);
	parse_images(p, m, get(p, o, "images", json_type_array));
	v = get(p, o, "vm", json_type_object);
	if (v) {
		m->info.vm = strdup(json_object_to_json_string_ext(v,
				JSON_C_TO_STRING_PLAIN |
				JSON_C_TO_STRING_NOSLASHESCAPE));
		if (!m->info.vm)
			p->err = store_fail(ENOMEM, "out of memory");
	}
}

/* json_parse - *@obj owns the result; all of @text must be one value */
static int json_parse(json_object **obj, const char *text, size_t len)
{
	json_tokener *tok = json_tokener_new_ex(MAX_DEPTH);
	size_t end;

	if (!tok)
		return -ENOMEM;
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT |
			       JSON_TOKENER_ALLOW_TRAILING_CHARS);
	*obj = json_tokener_parse_ex(tok, text, len);
	end = json_tokener_get_parse_end(tok);
	if (json_tokener_get_error(tok) != json_tokener_success) {
		json_object_put(*obj);
		*obj = NULL;
	}
	json_tokener_free(tok);
	while (end < len && isspace((unsigned char)text[end]))
		end++;
	if (*obj && end == len && json_object_is_type(*obj, json_type_object))
		return 0;
	json_object_put(*obj);
	return -EBADMSG;
}

/* The root hash as the text says, if the text hashes to it. */
static int root_check(uint8_t root[STORE_ID_BYTES], const char *text, size_t len,
		      const char *what)
{
	const char *tail = text + len - TAIL_BYTES;
	struct fmt_hash h;

	if (len < TAIL_BYTES || memcmp(tail, TAIL_KEY, 8) ||
	    id_parse(h.b, tail + 8, STORE_ID_CHARS) ||
	    memcmp(tail + 8 + STORE_ID_CHARS, "\"}\n", 3))
		return store_fail(EBADMSG, "%s: %s does not end in a root "
				  "hash: truncated or not a snapshot", what,
				  MANIFEST_NAME);
	if (!fmt_hash_is(&h, text, len - TAIL_BYTES))
		return store_fail(EBADMSG, "%s: %s is damaged: its root hash "
				  "does not match", what, MANIFEST_NAME);
	memcpy(root, h.b, STORE_ID_BYTES);
	return 0;
}

int manifest_parse(struct manifest *m, const char *text, size_t len,
		   const char *what)
{
	struct parse p = { .what = what };
	json_object *o = NULL;

	memset(m, 0, sizeof(*m));
	p.err = root_check(m->info.root, text, len, what);
	if (p.err)
		return p.err;
	p.err = json_parse(&o, text, len);
	if (p.err)
		return store_fail(p.err, "%s: %s is not JSON", what,
				  MANIFEST_NAME);
	m->info.stored_bytes = len;
	parse_object(&p, m, o);
	json_object_put(o);
	if (p.err)
		manifest_free(m);
	return p.err;
}

static int load(char **text, size_t *len, int dirfd, const char *what)
{
	uint64_t bytes;
	int fd, err;

	fd = sio_open_read(dirfd, MANIFEST_NAME, &bytes);
	if (fd < 0)
		return store_fail(fd, "%s: %s", what, store_error());
	if (bytes > FMT_MANIFEST_MAX) {
		close(fd);
		return store_fail(EBADMSG, "%s: %s is too large", what,
				  MANIFEST_NAME);
	}
	*len = bytes;
	*text = malloc(bytes + 1);
	err = *text ? sio_read(fd, *text, bytes, 0, MANIFEST_NAME) :
		      store_fail(ENOMEM, "out of memory");
	if (err)
		free(*text);
	close(fd);
	return err;
}

int manifest_ancestors(struct manifest *m, int dirfd)
{
	size_t len = m->info.nr_ancestors * sizeof(*m->ancestors);
	uint64_t bytes;
	int fd, err;

	if (m->ancestors)
		return 0;
	fd = sio_open_read(dirfd, ANCESTORS_NAME, &bytes);
	if (fd < 0)
		return store_fail(fd, "%s: %s", m->info.name, store_error());
	m->ancestors = malloc(len + 1);
	if (!m->ancestors)
		err = store_fail(ENOMEM, "out of memory");
	else if (bytes != len)
		err = store_fail(EBADMSG, "%s: damaged: the list of ancestors "
				 "has a wrong length", m->info.name);
	else
		err = sio_read(fd, m->ancestors, len, 0, ANCESTORS_NAME);
	close(fd);
	if (!err && !fmt_hash_is(&m->ancestors_hash, m->ancestors, len))
		err = store_fail(EBADMSG, "%s: damaged: the list of ancestors "
				 "has a wrong checksum", m->info.name);
	if (!err && len && memcmp(m->ancestors[m->info.nr_ancestors - 1].id,
				  m->info.parent, STORE_ID_BYTES))
		err = store_fail(EBADMSG, "%s: damaged: the parent is not the "
				 "last ancestor", m->info.name);
	for (unsigned int i = 0; !err && i < m->info.nr_ancestors; i++)
		if (!memcmp(m->ancestors[i].id, m->info.id, STORE_ID_BYTES))
			err = store_fail(EBADMSG, "%s: damaged: it is its own "
					 "ancestor", m->info.name);
	if (err) {
		free(m->ancestors);
		m->ancestors = NULL;
	}
	return err;
}

int manifest_read(struct manifest *m, int dirfd, const char *what)
{
	size_t len;
	char *text;
	int err;

	memset(m, 0, sizeof(*m));
	err = load(&text, &len, dirfd, what);
	if (err)
		return err;
	err = manifest_parse(m, text, len, what);
	free(text);
	return err;
}

int manifest_root(uint8_t root[STORE_ID_BYTES], int dirfd, const char *what)
{
	size_t len;
	char *text;
	int err;

	err = load(&text, &len, dirfd, what);
	if (err)
		return err;
	err = root_check(root, text, len, what);
	free(text);
	return err;
}

int manifest_peek(char name[STORE_NAME_CHARS + 1], int dirfd)
{
	static const char format[] = "{\"format\":\"" FORMAT "\",\"version\":1,"
				     "\"id\":\"%*32[0-9a-f]\",\"name\":\"%64[^\"]";
	char head[256];
	uint64_t bytes;
	int fd, err;

	fd = sio_open_read(dirfd, MANIFEST_NAME, &bytes);
	if (fd < 0)
		return fd;
	if (bytes > sizeof(head) - 1)
		bytes = sizeof(head) - 1;
	err = sio_read(fd, head, bytes, 0, MANIFEST_NAME);
	close(fd);
	if (err)
		return err;
	head[bytes] = 0;
	return sscanf(head, format, name) == 1 ? 0 : -EBADMSG;
}

int manifest_vm_ok(const char *json)
{
	json_object *o = NULL;
	int err = json_parse(&o, json, strlen(json));

	if (err)
		return store_fail(EINVAL, "the VM description is not a JSON "
				  "object");
	json_object_put(o);
	return 0;
}

/* ---- writing ----------------------------------------------------------- */

static void add_hex(json_object *o, const char *key, const uint8_t *id)
{
	char hex[STORE_ID_CHARS + 1];

	store_id_to_hex(id, hex);
	json_object_object_add(o, key, json_object_new_string(hex));
}

static void add_u64(json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_int64(v));
}

static json_object *image_object(const struct store_image_info *ii,
				 const struct manifest_image *f)
{
	json_object *o = json_object_new_object();

	json_object_object_add(o, "name", json_object_new_string(ii->name));
	add_u64(o, "bytes", ii->bytes);
	add_u64(o, "data_bytes", f->data_bytes);
	add_u64(o, "index_bytes", f->index_bytes);
	add_hex(o, "index_xxh3", f->index_hash.b);
	add_u64(o, "data_pages", ii->data_pages);
	add_u64(o, "zero_pages", ii->zero_pages);
	add_u64(o, "hole_pages", ii->hole_pages);
	add_u64(o, "own_data_pages", ii->own_data_pages);
	add_u64(o, "own_zero_pages", ii->own_zero_pages);
	json_object_object_add(o, "codec", json_object_new_string(
					store_codec_name(ii->codec)));
	json_object_object_add(o, "level", json_object_new_int(ii->level));
	json_object_object_add(o, "inherits",
			       json_object_new_boolean(ii->inherits));
	return o;
}

static json_object *manifest_object(const struct manifest *m)
{
	json_object *o = json_object_new_object(), *arr;

	json_object_object_add(o, "format", json_object_new_string(FORMAT));
	add_u64(o, "version", FMT_VERSION);
	add_hex(o, "id", m->info.id);
	json_object_object_add(o, "name", json_object_new_string(m->info.name));
	add_u64(o, "created_ns", m->info.created_ns);
	add_u64(o, "pause_ns", m->info.pause_ns);
	add_u64(o, "state_bytes", m->info.state_bytes);
	add_hex(o, "state_xxh3", m->state_hash.b);
	add_u64(o, "ancestors", m->info.nr_ancestors);
	add_hex(o, "ancestors_xxh3", m->ancestors_hash.b);
	if (m->info.has_parent)
		add_hex(o, "parent", m->info.parent);
	arr = json_object_new_array();
	for (unsigned int i = 0; i < m->info.nr_images; i++)
		json_object_array_add(arr, image_object(m->info.images + i,
							m->files + i));
	json_object_object_add(o, "images", arr);
	json_object_object_add(o, "vm", json_tokener_parse(
					m->info.vm ? m->info.vm : "{}"));
	return o;
}

static int write_file(int dirfd, const char *name, const void *buf, size_t len)
{
	int fd, err;

	fd = sio_create(dirfd, name);
	if (fd < 0)
		return fd;
	err = len ? sio_write(fd, buf, len, 0, name) : 0;
	if (!err)
		err = sio_fsync(fd, name);
	close(fd);
	return err;
}

static int write_text(struct manifest *m, int dirfd, const char *body)
{
	size_t len = strlen(body);
	char *text = malloc(len + TAIL_BYTES + 2), hex[STORE_ID_CHARS + 1];
	struct fmt_hash root;
	int err;

	if (!text)
		return store_fail(ENOMEM, "out of memory");
	/* "{...}" loses its brace, gains a comma and the tail */
	memcpy(text, body, len - 1);
	text[len - 1] = ',';
	fmt_hash(&root, text, len);
	store_id_to_hex(root.b, hex);
	len += snprintf(text + len, TAIL_BYTES + 2, TAIL_KEY "%s\"}\n", hex);
	err = len > FMT_MANIFEST_MAX ?
	      store_fail(EFBIG, "the manifest would have %zu bytes, too many",
			 len) : write_file(dirfd, MANIFEST_NAME, text, len);
	memcpy(m->info.root, root.b, sizeof(root.b));
	free(text);
	return err;
}

int manifest_write(struct manifest *m, int dirfd)
{
	size_t len = m->info.nr_ancestors * sizeof(*m->ancestors);
	const void *list = m->ancestors ? (void *)m->ancestors : "";
	const char *body;
	json_object *o;
	int err;

	fmt_hash(&m->ancestors_hash, list, len);
	err = write_file(dirfd, ANCESTORS_NAME, list, len);
	if (err)
		return err;
	o = manifest_object(m);
	body = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
					      JSON_C_TO_STRING_NOSLASHESCAPE);
	err = body ? write_text(m, dirfd, body) :
		     store_fail(ENOMEM, "out of memory");
	json_object_put(o);
	return err;
}
