// SPDX-License-Identifier: GPL-2.0-only
#include "qmp.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 3, 4)))
static int fail(struct qmp *q, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(q->why, sizeof(q->why), fmt, ap);
	va_end(ap);
	return err;
}

static int lost(struct qmp *q, int err)
{
	if (err == -EPIPE)
		return fail(q, err, "QEMU is gone");
	return fail(q, err, "QEMU does not speak its protocol: %s", strerror(-err));
}

const char *qmp_text(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_string))
		return "";
	return json_object_get_string(v);
}

/* the next message, whatever it is */
static int receive(struct qmp *q, struct json_object **msg)
{
	int ret;

	do
		ret = line_recv(&q->io, msg);
	while (!ret);
	return ret < 0 ? lost(q, ret) : 0;
}

/* the answer to the command before: a "return", which is taken out of it, or an "error" */
static int answer(struct qmp *q, const char *cmd, struct json_object **value)
{
	struct json_object *msg, *v;
	int ret;

	*value = NULL;
	for (;;) {
		ret = receive(q, &msg);
		if (ret)
			return ret;
		if (json_object_object_get_ex(msg, "return", &v)) {
			*value = json_object_get(v);
			break;
		}
		if (json_object_object_get_ex(msg, "error", &v)) {
			ret = fail(q, -EIO, "QEMU refuses %s: %s", cmd, qmp_text(v, "desc"));
			break;
		}
		json_object_put(msg);	/* an event */
	}
	json_object_put(msg);
	return ret;
}

int qmp_call(struct qmp *q, const char *cmd, struct json_object *args, int fd,
	     struct json_object **out)
{
	struct json_object *msg = json_object_new_object(), *value;
	int ret;

	json_object_object_add(msg, "execute", json_object_new_string(cmd));
	if (args)
		json_object_object_add(msg, "arguments", args);
	ret = line_send(&q->io, msg, fd < 0 ? NULL : &fd, fd < 0 ? 0 : 1);
	json_object_put(msg);
	ret = ret ? lost(q, ret) : answer(q, cmd, &value);
	if (ret)
		return ret;
	if (out)
		*out = value;
	else
		json_object_put(value);
	return 0;
}

int qmp_open(struct qmp *q, int fd)
{
	struct json_object *msg;
	int ret;

	line_init(&q->io, fd);
	q->why[0] = 0;
	ret = receive(q, &msg);
	if (ret)
		return ret;
	if (!json_object_object_get_ex(msg, "QMP", NULL))
		ret = fail(q, -EPROTO, "QEMU does not greet: %.100s", json_object_to_json_string(msg));
	json_object_put(msg);
	return ret ? ret : qmp_call(q, "qmp_capabilities", NULL, -1, NULL);
}

void qmp_close(struct qmp *q)
{
	line_exit(&q->io);
}

bool qmp_pending(const struct qmp *q)
{
	return q->io.len && memchr(q->io.buf, '\n', q->io.len);
}

int qmp_event(struct qmp *q, struct json_object **event)
{
	int ret = line_recv(&q->io, event);

	if (ret == 1 && !json_object_object_get_ex(*event, "event", NULL)) {
		json_object_put(*event);
		*event = NULL;
		return 0;
	}
	return ret < 0 ? lost(q, ret) : ret;
}
