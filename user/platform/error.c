// SPDX-License-Identifier: LGPL-2.1-or-later
/* The latest failure of each thread: errno, code, sentence. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/lib.h"

static _Thread_local struct vmplat_error latest = { .text = "no error" };

static const char *const names[] = {
	[VMPLAT_OK] = "ok",
	[VMPLAT_FAILED] = "failed",
	[VMPLAT_INVALID] = "invalid",
	[VMPLAT_NOT_FOUND] = "not-found",
	[VMPLAT_NO_MODULE] = "no-module",
	[VMPLAT_EXISTS] = "exists",
	[VMPLAT_DENIED] = "denied",
	[VMPLAT_BUSY] = "busy",
	[VMPLAT_NO_MEMORY] = "no-memory",
	[VMPLAT_NO_SPACE] = "no-space",
	[VMPLAT_LIMIT] = "limit",
	[VMPLAT_UNSUPPORTED] = "unsupported",
	[VMPLAT_WRONG_OBJECT] = "wrong-object",
	[VMPLAT_RANGE] = "range",
	[VMPLAT_DAMAGED] = "damaged",
	[VMPLAT_STALE] = "stale",
	[VMPLAT_INTERRUPTED] = "interrupted",
	[VMPLAT_TIMEOUT] = "timeout",
	[VMPLAT_GONE] = "gone",
	[VMPLAT_UNREACHABLE] = "unreachable",
	[VMPLAT_IO] = "io",
};

API const char *vmplat_code_name(enum vmplat_code code)
{
	return (size_t)code < sizeof(names) / sizeof(names[0]) ? names[code] : NULL;
}

API enum vmplat_code vmplat_code_of(int err)
{
	switch (err < 0 ? -err : err) {
	case 0:
		return VMPLAT_OK;
	case EINVAL:
	case EDOM:
	case ENAMETOOLONG:
		return VMPLAT_INVALID;
	case ENOENT:
	case ENODEV:
	case ENXIO:
	case ESRCH:
	case ENOTDIR:
		return VMPLAT_NOT_FOUND;
	case EEXIST:
	case EALREADY:
	case ENOTEMPTY:
		return VMPLAT_EXISTS;
	case EACCES:
	case EPERM:
	case EROFS:
		return VMPLAT_DENIED;
	case EBUSY:
	case EAGAIN:
	case ETXTBSY:
	case EDEADLK:
		return VMPLAT_BUSY;
	case ENOMEM:
		return VMPLAT_NO_MEMORY;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return VMPLAT_NO_SPACE;
	case EMFILE:
	case ENFILE:
	case EMLINK:
	case EMSGSIZE:
		return VMPLAT_LIMIT;
	case EOPNOTSUPP:
	case ENOTTY:
	case ENOSYS:
	case EXDEV:
	case E2BIG:
		return VMPLAT_UNSUPPORTED;
	case EMEDIUMTYPE:
	case EBADF:
	case EISDIR:
		return VMPLAT_WRONG_OBJECT;
	case ERANGE:
	case EOVERFLOW:
	case EADDRNOTAVAIL:
		return VMPLAT_RANGE;
	case EBADMSG:
	case EILSEQ:
	case EUCLEAN:
	case EPROTO:
		return VMPLAT_DAMAGED;
	case ESTALE:
	case ENODATA:
	case ENOBUFS:
		return VMPLAT_STALE;
	case EINTR:
	case ECANCELED:
		return VMPLAT_INTERRUPTED;
	case ETIMEDOUT:
	case ETIME:
		return VMPLAT_TIMEOUT;
	case EPIPE:
	case ECONNRESET:
	case ECONNREFUSED:
	case ENOTCONN:
		return VMPLAT_GONE;
	case EFAULT:
		return VMPLAT_UNREACHABLE;
	case EIO:
	case EREMOTEIO:
		return VMPLAT_IO;
	default:
		return VMPLAT_FAILED;
	}
}

API const char *vmplat_last_error(void)
{
	return latest.text;
}

API void vmplat_error_get(struct vmplat_error *error)
{
	*error = latest;
}

API void vmplat_error_put(const struct vmplat_error *error)
{
	latest = *error;
}

API int vmplat_error_format(struct vmplat_error *error, int err, const char *fmt, va_list ap)
{
	char text[VMPLAT_ERROR_TEXT];	/* fmt may print @error's own */
	int saved = errno;

	if (vsnprintf(text, sizeof(text), fmt, ap) >= (int)sizeof(text))
		strcpy(text + sizeof(text) - 4, "...");
	memcpy(error->text, text, strlen(text) + 1);
	error->err = err < 0 ? err : -err;
	error->code = vmplat_code_of(err);
	errno = saved;
	return error->err;
}

API int vmplat_error_set(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vmplat_error_format(&latest, err, fmt, ap);
	va_end(ap);
	return latest.err;
}

API int vmplat_error_set_code(enum vmplat_code code, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vmplat_error_format(&latest, err, fmt, ap);
	va_end(ap);
	latest.code = code;
	return latest.err;
}
