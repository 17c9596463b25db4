// SPDX-License-Identifier: GPL-2.0
/*
 * One dispatcher for every ioctl of every object: sizes, tails, flags and the
 * order "nothing is published before nothing can fail any more" are decided
 * here, so that the commands only hold what is theirs.
 */
#include <linux/file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "vmplat.h"

/* Every argument begins with these two. */
struct head {
	u32 size;
	u32 flags;
};

#define MAX_ARG_BYTES	192

static const struct vmplat_ioctl_op *
find_op(const struct vmplat_ioctl_op *ops, size_t nr_ops, unsigned int cmd)
{
	size_t i;

	for (i = 0; i < nr_ops; i++)
		if (cmd == _IO(VMPLAT_IOC_TYPE, ops[i].nr))
			return &ops[i];
	return NULL;
}

/* Outputs reach as far as both sides know the struct. */
static int write_outputs(const struct vmplat_ioctl_op *op, void __user *uarg,
			 const struct head *arg)
{
	u32 end = min_t(u32, arg->size, op->size);

	if (!op->out_from || end <= op->out_from)
		return 0;
	return copy_to_user(uarg + op->out_from, (void *)arg + op->out_from,
			    end - op->out_from) ? -EFAULT : 0;
}

/*
 * Copy the argument in, and prove that outputs can be copied out: after the
 * command ran, a failing copy could not be told from one that changed nothing.
 */
static int read_arg(const struct vmplat_ioctl_op *op, void __user *uarg,
		    struct head *arg)
{
	u32 size;
	int err;

	if (get_user(size, (u32 __user *)uarg))
		return -EFAULT;
	if (size < op->min_size)
		return -EINVAL;
	if (size > PAGE_SIZE)	/* no struct will ever be: do not read it all */
		return -E2BIG;
	err = copy_struct_from_user(arg, op->size, uarg, size);
	if (err)
		return err;
	arg->size = size;	/* what was checked, not what is there now */
	if (arg->flags & ~op->flags)
		return -EOPNOTSUPP;
	return write_outputs(op, uarg, arg);
}

static int execute(const struct vmplat_ioctl_op *op, struct vmplat_cmd *cmd,
		   void __user *uarg)
{
	int err = op->execute(cmd);
	int write_err = write_outputs(op, uarg, cmd->arg);

	/* Also on an error: an output may say how far the command got. */
	if (err)
		return err;
	if (op->finish)
		op->finish(cmd, write_err);
	return write_err;
}

/*
 * The descriptor is reserved and told to the caller before the object exists.
 * What is left afterwards cannot fail, except for other outputs; closing the
 * object then undoes it.
 */
static int execute_new(const struct vmplat_ioctl_op *op, struct vmplat_cmd *cmd,
		       void __user *uarg)
{
	s32 __user *ufd = uarg + op->fd_at;
	int fd, err;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	if (put_user(fd, ufd)) {
		put_unused_fd(fd);
		return -EFAULT;
	}
	err = execute(op, cmd, uarg);
	if (!err) {
		fd_install(fd, cmd->new_file);
		return 0;
	}
	put_unused_fd(fd);
	if (cmd->new_file)
		fput(cmd->new_file);
	put_user(-1, ufd);
	return err;
}

/**
 * vmplat_ioctl - find, read, execute and answer one command
 * @file: the file it was called on
 * @cmd: as given to ioctl(2)
 * @uarg: as given to ioctl(2)
 * @ops: the commands of this kind of file
 * @nr_ops: how many
 */
long vmplat_ioctl(struct file *file, unsigned int cmd, unsigned long uarg,
		  const struct vmplat_ioctl_op *ops, size_t nr_ops)
{
	const struct vmplat_ioctl_op *op = find_op(ops, nr_ops, cmd);
	void __user *ubuf = (void __user *)uarg;
	u64 buf[MAX_ARG_BYTES / sizeof(u64)] = {};
	struct vmplat_cmd c = { .file = file, .arg = buf };
	int err;

	if (!op)
		return -ENOTTY;
	if (WARN_ON_ONCE(op->size > sizeof(buf)))
		return -ENOTTY;
	err = read_arg(op, ubuf, c.arg);
	if (err)
		return err;
	return op->fd_at ? execute_new(op, &c, ubuf) : execute(op, &c, ubuf);
}

/* vmplat_check_range - is [first, first + nr) within limit pages, and not empty? */
int vmplat_check_range(u64 first, u64 nr, u64 limit)
{
	u64 end;

	if (!nr)
		return -EINVAL;
	if (check_add_overflow(first, nr, &end))
		return -EOVERFLOW;
	if (end > limit)
		return -ERANGE;
	return 0;
}
